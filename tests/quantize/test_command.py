"""`megacity quantize`: what it refuses before any tool is started, and what it prints."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from serve_app.cli import main
from serve_app.commands.quantize import table

ROOT = Path(__file__).parents[2]
NANO = ROOT / "models" / "nano-tutor"
RESULTS = ROOT / "benchmarks" / "results" / "quantize.json"
GPTQ4 = ["--method", "gptq", "--bits", "4", "--task", "nano-tutor"]


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    copy = tmp_path / "nano"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(NANO / name, copy / name)
    return copy


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["quantize", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "awq", "--bits", "8", "--task", "nano-tutor"], "awq is for 4-bit weights"),
        (["--method", "gptq", "--bits", "4", "--activations", "8", "--task", "x"], "goes with --bits 8"),
        (["--method", "gptq", "--bits", "4"], "--calibration: give texts"),
        ([*GPTQ4, "--samples", "0"], "1 or more"),
        ([*GPTQ4, "--env", "/nowhere"], "add --setup to make it"),
    ],
)
def test_options_that_make_no_sense(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert said in refusal(capsys, str(nano), str(tmp_path / "out"), *options)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no folder 'Qwen/Qwen2.5-7B'" in refusal(capsys, "Qwen/Qwen2.5-7B", str(tmp_path / "out"), *GPTQ4)


def test_nothing_is_overwritten_by_accident(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = nano.parent / "there"
    other.mkdir()
    assert "add --force" in refusal(capsys, str(nano), str(other), *GPTQ4)
    for out in (nano, nano / "inside", nano.parent):
        assert "must not lie in each other" in refusal(capsys, str(nano), str(out), *GPTQ4, "--force")


def test_a_checkpoint_that_could_run_code(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nano / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert "a pickle" in refusal(capsys, str(nano), str(tmp_path / "out"), *GPTQ4)


def test_a_checkpoint_that_is_quantized_already(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((nano / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (nano / "config.json").write_text(json.dumps(config))
    assert "quantized already" in refusal(capsys, str(nano), str(tmp_path / "out"), *GPTQ4)


def test_tools_that_fail_leave_nothing_behind(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An environment whose interpreter has none of the tools."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(shutil.which("false") or "/bin/false")
    arguments = [str(nano), str(tmp_path / "out"), *GPTQ4, "--env", str(tmp_path / "env")]
    assert main(["quantize", *arguments]) == 1
    assert "could not quantize" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_the_table_says_what_was_measured() -> None:
    for report in json.loads(RESULTS.read_text("utf-8"))["reports"]:
        printed = table(report)
        assert f"{report['after']['bytes']:,}" in printed
        assert ("reached" in printed) == report["reached"]
        assert f"{report['items']} questions" in printed
