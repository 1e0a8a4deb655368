"""Checkpoints and options that are refused when the engine loads."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deployments.vllm import VLLM
from serve_app.errors import ConfigError
from tests.vllm.conftest import NANO

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        shutil.copy(Path(NANO) / name, folder)
    return folder


async def refused(**options: Any) -> str:
    engine = VLLM(VLLM.Options.model_validate({"model": NANO, "enforce_eager": True} | options))
    with pytest.raises(ConfigError) as found:
        await engine.load()
    await engine.close()
    return str(found.value)


def change(checkpoint: Path, **config: Any) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))


async def test_heads_of_a_size_that_vllm_lacks(checkpoint: Path) -> None:
    change(checkpoint, head_dim=16)
    assert "heads of 16" in await refused(model=str(checkpoint))


async def test_heads_that_do_not_divide() -> None:
    assert await refused(tensor_parallel=3) == "tensor_parallel: 4 heads do not divide by 3; use 1 or 2 or 4"


async def test_a_model_of_a_hub_without_its_revision() -> None:
    assert "revision" in await refused(model="Qwen/Qwen2.5-7B-Instruct")


async def test_a_context_that_the_model_does_not_have() -> None:
    assert "max_model_len" in await refused(max_model_len=100_000)


async def test_an_adapter_that_is_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"PK\x03\x04")
    assert "adapter_model.safetensors" in await refused(loras={"tuned": str(tmp_path)})


async def test_code_of_a_checkpoint_is_not_run(checkpoint: Path) -> None:
    """A model that vLLM doesn't know, with its own code beside it."""
    ran = checkpoint / "ran"
    change(checkpoint, model_type="own", architectures=["Own"], auto_map={"AutoConfig": "own.Config"})
    (checkpoint / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    await refused(model=str(checkpoint))
    assert not ran.exists()
