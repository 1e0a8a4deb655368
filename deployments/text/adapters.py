# mypy: disable-error-code="import-not-found"
"""LoRA adapters that make other models of one checkpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.text.checkpoint import found
from serve_app.errors import ConfigError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for
WEIGHTS = "adapter_model.safetensors"


def adapters(loras: Mapping[str, str]) -> dict[str, "LoRARequest"]:
    """What vLLM is asked with, by the name of the model. Raises ConfigError."""
    from vllm.lora.request import LoRARequest

    named = enumerate(loras.items(), start=1)
    return {name: LoRARequest(name, number, str(_folder(name, path))) for number, (name, path) in named}


def rank(loras: Mapping[str, str]) -> int:
    """The smallest rank that vLLM can run all adapters with. Raises ConfigError."""
    asked = max(_rank(_folder(name, path)) for name, path in loras.items())
    able = next((rank for rank in RANKS if rank >= asked), None)
    if able is None:
        raise ConfigError(f"loras: an adapter has rank {asked}, and vLLM has at most {RANKS[-1]}; train a smaller one")
    return able


def _rank(folder: Path) -> int:
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    return max(int(config.get("r", 8)), *map(int, config.get("rank_pattern", {}).values()), 1)


def _folder(name: str, path: str) -> Path:
    """An adapter without safetensors would be a pickle."""
    folder = found(path)
    if folder is None or not all((folder / file).is_file() for file in ("adapter_config.json", WEIGHTS)):
        raise ConfigError(f"loras.{name}: '{path}' holds no {WEIGHTS} with its adapter_config.json; save it there")
    return folder
