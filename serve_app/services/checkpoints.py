"""What a checkpoint on the disk holds, read from its config.json and the headers of its safetensors.

No weight is loaded and nothing of the checkpoint is run. A folder that could run code, or that vLLM would refuse or
break on later, is refused here with what to do about it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.errors import ConfigError
from serve_app.policies.architectures import Architecture
from serve_app.policies.placement import FP8, FULL, HALF, Scheme, grouped

PROJECT = Path(__file__).parents[2]
MIRROR = "ai-models"
"""Models lie there under this name, on the nodes that run them; see the object store's keys."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # what torch.save writes: a zip archive, or a bare pickle
LONGEST_HEADER = 100 * 2**20  # as the safetensors library has it
COMMIT = re.compile(r"[0-9a-f]{40}")
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""vLLM 0.32, `CPUAttentionBackend.get_supported_head_sizes`; another size breaks the engine at the first request."""


@dataclass(frozen=True, slots=True)
class Facts:
    """`stored`: bytes of all tensors in the files; `elements`: how many numbers they are, packed ones as one each."""

    architecture: Architecture | None
    scheme: Scheme
    stored: int
    elements: int
    context_tokens: int | None

    def loaded(self, scheme: Scheme) -> int:
        """Bytes once loaded: quantized weights stay as they are, others are turned into the type that was asked for."""
        return self.elements * round(scheme.linear) // 8 if self.scheme in (HALF, FULL) else self.stored


def folder(model: str) -> Path | None:
    """The folder that a profile means, if it is on this machine: from the current directory, or from the project."""
    return next((p for p in (Path(model).expanduser(), PROJECT / model) if p.is_dir()), None)


def check_revision(model: str, revision: str | None) -> None:
    """A model of a hub must be named to the commit, or it may be another one tomorrow. Raises ConfigError."""
    hub = model.count("/") <= 1 and not model.startswith((f"{MIRROR}/", "/", ".", "~")) and folder(model) is None
    if hub and not (revision and COMMIT.fullmatch(revision)):
        raise ConfigError(
            f"revision: '{model}' is no folder here, so it would come from a hub; name its commit (40 hex digits), "
            "or give a local folder"
        )


def read(path: Path) -> Facts:
    """Raises ConfigError."""
    if not (path / "config.json").is_file():
        raise ConfigError(f"model: '{path.name}' is no checkpoint: it has no config.json")
    refuse_code(path)
    config = _json(path / "config.json")
    text = config | config.get("text_config", {})
    headers = [_header(file) for file in _shards(path)]
    tensors = [tensor for header in headers for name, tensor in header.items() if name != "__metadata__"]
    return Facts(
        architecture=_architecture(text),
        scheme=_scheme(config, text),
        stored=sum(end - start for start, end in (tensor["data_offsets"] for tensor in tensors)),
        elements=sum(_product(tensor["shape"]) for tensor in tensors),
        context_tokens=text.get("max_position_embeddings"),
    )


def refuse_code(path: Path) -> None:
    """Nothing in a checkpoint may be able to run: no pickles, no Python of its own. Raises ConfigError."""
    for pattern in PICKLES:
        for file in path.rglob(pattern):
            if _is_pickle(file):
                raise ConfigError(
                    f"model: '{path.name}' holds {file.name}, a pickle, which can run code when it is loaded; "
                    "keep the safetensors only, or save it anew as safetensors"
                )
    for file in path.glob("*.json"):
        if "auto_map" in _json(file, strict=False):
            raise ConfigError(
                f"model: {file.name} of '{path.name}' asks for code from the checkpoint (auto_map), which is never "
                "run; use a model that vLLM or transformers know, and take the key out"
            )


def check_head_size(architecture: Architecture, on_cpu: bool) -> None:
    """Raises ConfigError. On a GPU, FlashAttention takes multiples of 8 up to 256, Triton whatever is not below 32."""
    size = architecture.head_dim
    if on_cpu and size not in CPU_HEAD_SIZES:
        raise ConfigError(f"model: heads of {size}, and vLLM has {', '.join(map(str, CPU_HEAD_SIZES))} on a CPU")
    if not on_cpu and size < 32 and size % 8:
        raise ConfigError(f"model: heads of {size}, and vLLM needs a multiple of 8, or 32 and more")


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4).startswith(PICKLE_STARTS)


def _shards(path: Path) -> list[Path]:
    """The files of the weights: those of the index if there is one, since some folders hold them twice."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        files = [path / name for name in sorted(set(_json(index).get("weight_map", {}).values()))]
    else:
        single = path / "model.safetensors"
        files = [single] if single.is_file() else sorted(path.glob("*.safetensors"))
    missing = next((file.name for file in files if not file.is_file()), None)
    if missing or not files:
        raise ConfigError(f"model: '{path.name}' lacks {missing or 'safetensors'}; copy the checkpoint again")
    return files


def _header(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: 8 bytes of length, then JSON with a type, a shape and two offsets for each."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size):
            raise ConfigError(f"model: {file.name} is no safetensors file; copy the checkpoint again")
        header: dict[str, Any] = json.loads(stream.read(length))
    end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    if 8 + length + end > size:
        raise ConfigError(f"model: {file.name} is cut short; copy the checkpoint again")
    return header


def _architecture(config: Mapping[str, Any]) -> Architecture | None:
    """None for a model that is no decoder of the usual kind; its size is then known, its KV cache not."""
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        latent = config.get("kv_lora_rank") or 0
        return Architecture(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=config.get("model_type") in ("qwen2", "qwen2_vl"),
            latent=latent + config.get("qk_rope_head_dim", 0) if latent else 0,
        )
    except KeyError:
        return None


def _scheme(config: Mapping[str, Any], text: Mapping[str, Any]) -> Scheme:
    settings = config.get("quantization_config") or text.get("quantization_config")
    if not settings:
        return FULL if (text.get("dtype") or text.get("torch_dtype")) == "float32" else HALF
    method = settings.get("quant_method", "quantized")
    weights = next((g["weights"] for g in settings.get("config_groups", {}).values()), settings)
    bits = weights.get("num_bits") or weights.get("bits") or weights.get("w_bit") or 8
    group = weights.get("group_size") or weights.get("q_group_size") or 0
    if group > 0:
        return grouped(f"{method}-{bits}bit", bits, group)
    return FP8 if method == "fp8" or weights.get("type") == "float" else Scheme(f"{method}-{bits}bit", bits)


def _json(file: Path, strict: bool = True) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"model: {file.name} is not JSON; copy the checkpoint again") from error
    if not isinstance(found, dict):
        if strict:
            raise ConfigError(f"model: {file.name} holds no object; copy the checkpoint again")
        return {}
    return found


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
