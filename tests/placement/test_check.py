"""`megacity check` from the command line to its exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.cli import main
from serve_app.profile import PROFILES
from serve_app.services.gpus import machine_cards, read_cards

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QWEN = {"model": "Qwen/Qwen2.5-7B-Instruct", "revision": COMMIT, "max_model_len": 8192, "max_num_seqs": 16}
NO_DRIVER = pytest.mark.skipif(bool(machine_cards()), reason="this machine has GPUs, which go before the profile's")


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    """Writes a profile with these engines beside the embedded one's tutor, and with these cards."""

    def write(engines: dict[str, tuple[str, dict[str, Any], float]], cards: dict[str, Any] | None = None) -> str:
        document = yaml.safe_load((PROFILES / "embedded.yaml").read_text("utf-8"))
        settings = document["applications"][0]["args"]
        settings["cards"] = cards or {"onprem": {"card": "rtx-5090"}}
        for name, (engine, options, gpu) in engines.items():
            settings["engines"][name] = {"engine": engine, "options": options, "resources": {"gpu": gpu}}
        file = tmp_path / "profile.yaml"
        file.write_text(yaml.safe_dump(document), "utf-8")
        return str(file)

    return write


def vllm(gpu: float = 0.8, **options: Any) -> tuple[str, dict[str, Any], float]:
    return "deployments.vllm:VLLM", QWEN | options, gpu


def check(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any, str]:
    status = main(["check", "--json", "--gpu", "RTX 5090", *arguments])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else None, said.err


def test_what_fits_is_shown_with_its_cap(profile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, said = check([profile({"llm": vllm(), "speech": speech(0.2)})], capsys)
    assert (status, said, found["ok"]) == (0, "", True)
    llm, heard = found["placement"]["checks"]
    assert llm["cap"] == {"setting": "gpu_memory_utilization", "value": pytest.approx(0.784, abs=0.001)}
    assert llm["gib"]["kv"] == 7.0
    assert heard["cap"] == {"setting": None, "value": None}


def speech(gpu: float) -> tuple[str, dict[str, Any], float]:
    return "tests.placement.engine:Speech", {}, gpu


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (vllm(0.5), "engine on onprem: 22.4 GiB do not fit 0.5 of one RTX 5090"),
        (
            vllm(1, model="meta-llama/Llama-3.1-70B-Instruct-AWQ-INT4", tensor_parallel=1, max_num_seqs=4),
            "17.7 too much",
        ),
        (vllm(3, model="meta-llama/Llama-2-13b-chat-hf", tensor_parallel=3), "40 heads do not divide by 3"),
        (vllm(0.8, model="Qwen/Qwen2.5-32B-Instruct-AWQ"), "tensor_parallel 2 takes whole cards"),
        (vllm(revision=None), "engines.engine.options.revision: "),
        (vllm(0, revision="main"), "engines.engine.options.revision: "),
    ],
)
def test_what_cannot_run_exits_with_2_and_one_line(
    profile: Any, capsys: pytest.CaptureFixture[str], engine: Any, said: str
) -> None:
    status, found, line = check([profile({"engine": engine})], capsys)
    assert (status, line.count("\n")) == (2, 1)
    assert said in line
    assert not found["ok"]


def test_a_checkpoint_on_the_disk_is_read(profile: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nano = {"model": "models/nano-tutor", "revision": None, "max_model_len": 512}
    status, found, _ = check([profile({"engine": vllm(0.1, **nano)})], capsys)
    assert status == 0
    assert found["placement"]["checks"][0]["gib"]["weights"] == pytest.approx(3_150_080 * 2 / 2**30, abs=0.001)


def test_a_checkpoint_with_a_pickle_is_refused(
    profile: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    status, _, said = check([profile({"engine": vllm(model=str(tmp_path / "model"))})], capsys)
    assert status == 2
    assert "engines.engine.options.model: 'model' holds pytorch_model.bin, a pickle" in said


def test_an_adapter_with_a_pickle_is_refused(profile: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"PK\x03\x04")
    status, _, said = check([profile({"engine": vllm(loras={"tuned": str(tmp_path / "adapter")})})], capsys)
    assert status == 2
    assert "'adapter' holds adapter_model.bin, a pickle" in said


def test_other_cards_than_the_profiles(profile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = profile({"llm": vllm()})
    assert main(["check", file, "--gpu", "L4"]) == 2
    assert "of one L4" in capsys.readouterr().err
    assert main(["check", file, "--gpu", "H100", "--gpus", "2"]) == 0
    assert "2 x H100 of 79.1, from the command line" in capsys.readouterr().out


@NO_DRIVER
def test_cards_of_the_profile(profile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", profile({"llm": vllm()})]) == 0
    assert "RTX 5090 of 31.4, from the profile" in capsys.readouterr().out


def test_a_card_that_is_not_known_is_refused(profile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "workstation", "--gpu", "GTX 9"]) == 2
    assert main(["check", profile({}, {"onprem": {"card": "gtx-9"}})]) == 2
    assert main(["check", "workstation", "--gpus", "0", "--gpu", "l4"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize("name", ["workstation", "cluster"])
def test_shipped_profiles_fit_the_cards_that_they_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name, "--gpu", "RTX 5090"]) == 0
    assert "DOES NOT FIT" not in capsys.readouterr().out


def test_the_table_of_the_driver() -> None:
    """What the driver keeps for itself is taken off: 32,607 - 495 MiB are the 31.36 GiB that CUDA reports."""
    found = read_cards("NVIDIA GeForce RTX 5090, 32607, 495, 12.0\nNVIDIA GeForce RTX 5090, 32607, 495, 12.0\n")
    assert len(found) == 2
    assert found[0].memory / 2**30 == pytest.approx(31.36, abs=0.01)
    assert found[0].fp8_kv
