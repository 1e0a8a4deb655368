"""The whole command on the nano tutor, where MEGACITY_QUANTIZE_ENV names the tools' environment (half a minute)."""

import json
import os
from pathlib import Path

import pytest

from serve_app.cli import main
from serve_app.services.checkpoints import read

ENVIRONMENT = os.environ.get("MEGACITY_QUANTIZE_ENV")
NANO = Path(__file__).parents[2] / "models" / "nano-tutor"


@pytest.mark.skipif(not ENVIRONMENT, reason="MEGACITY_QUANTIZE_ENV names no environment with the tools")
@pytest.mark.timeout(600)
def test_four_bits_of_the_nano_tutor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--method", "gptq", "--bits", "4", "--task", "nano-tutor", "--items", "40", "--samples", "64"]
    assert main(["quantize", str(NANO), str(out), *arguments, "--env", str(ENVIRONMENT), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report == json.loads((out / "quantize.json").read_text("utf-8"))
    assert report["bytes_ratio"] < 0.4
    assert report["after"]["right"] >= report["before"]["right"] - 4
    facts = read(out)
    assert (facts.scheme.name, facts.scheme.group) == ("compressed-tensors-4bit", 128)
    assert not list(tmp_path.glob("*.part"))
