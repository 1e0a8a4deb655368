"""How large known models are: the numbers of their config.json, so that a plan needs no checkpoint on the disk.

Parameters are counted, not copied: `tests/placement` holds the counts against the totals that the authors publish.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Runtime = Literal["vllm", "ctranslate2", "torch", "mediapipe"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only language model. Everything counts per model, not per card."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    """One table for embeddings and output."""
    qkv_bias: bool = False
    latent: int = 0
    """Multi-head latent attention: elements kept per token and layer instead of keys and values; 0 without it."""
    total: int = 0
    """Parameters of a model that is not dense, as published; 0: they are counted."""
    vision: int = 0
    """Parameters of an image encoder, which stay in 16 bits."""

    @property
    def tables(self) -> int:
        """Embeddings and output layer, which GPTQ, AWQ and FP8 leave in 16 bits."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def small(self) -> int:
        """Norms and biases."""
        bias = self.layers * self.head_dim * (self.heads + 2 * self.kv_heads) if self.qkv_bias else 0
        return (2 * self.layers + 1) * self.hidden + bias

    @property
    def linear(self) -> int:
        """The matrices that quantization makes smaller: attention (q, k, v, o) and MLP (gate, up, down)."""
        if self.total:
            return self.total - self.tables - self.small
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        return self.linear + self.tables + self.small + self.vision

    def kv_elements(self, cards: int = 1) -> int:
        """Elements per token on one of `cards` cards.

        Grouped-query attention keeps 2 x layers x kv_heads x head_dim (Ainslie et al. 2023, arXiv:2305.13245); tensor
        parallelism divides the heads, and copies those that are fewer than the cards (vLLM, `QKVParallelLinear`).
        Latent attention keeps one vector per layer, on every card (DeepSeek-V2, arXiv:2405.04434).
        """
        if self.latent:
            return self.layers * self.latent
        return 2 * self.layers * max(1, self.kv_heads // cards) * self.head_dim


@dataclass(frozen=True, slots=True)
class Fixed:
    """A model that is no decoder-only language model: parameters, and bytes for each slot and for all of them."""

    parameters: int
    per_slot: int
    work: int
    runtime: Runtime = "torch"


MIB = 2**20

_QWEN_7B = Architecture(28, 3584, 18944, 28, 4, 128, 152064, qkv_bias=True)
_QWEN_14B = Architecture(48, 5120, 13824, 40, 8, 128, 152064, qkv_bias=True)
_QWEN_32B = Architecture(64, 5120, 27648, 40, 8, 128, 152064, qkv_bias=True)
_QWEN_72B = Architecture(80, 8192, 29568, 64, 8, 128, 152064, qkv_bias=True)
_LLAMA_8B = Architecture(32, 4096, 14336, 32, 8, 128, 128256)
_LLAMA_70B = Architecture(80, 8192, 28672, 64, 8, 128, 128256)
_DEEPSEEK_7B = Architecture(30, 4096, 11008, 32, 32, 128, 102400)

LANGUAGE: Mapping[str, Architecture] = MappingProxyType(
    {
        "qwen2.5-7b": _QWEN_7B,
        "qwen2.5-14b": _QWEN_14B,
        "qwen2.5-32b": _QWEN_32B,
        "qwen2.5-72b": _QWEN_72B,
        "qwen2.5-coder-7b": _QWEN_7B,
        "qwen2-vl-7b": replace(_QWEN_7B, vision=675_759_104),
        "llama-3.1-8b": _LLAMA_8B,
        "llama-3.1-70b": _LLAMA_70B,
        "llama-3-open-ko-8b": _LLAMA_8B,
        "llama-3-elyza-jp-8b": _LLAMA_8B,
        "llama-2-13b": Architecture(40, 5120, 13824, 40, 40, 128, 32000),
        "mistral-7b": Architecture(32, 4096, 14336, 32, 8, 128, 32768),
        "phi-3-mini": Architecture(32, 3072, 8192, 32, 32, 96, 32064),
        "deepseek-math-7b": _DEEPSEEK_7B,
        "deepseek-coder-6.7b": Architecture(32, 4096, 11008, 32, 32, 128, 32256),
        "deepseek-r1-distill-qwen-1.5b": Architecture(28, 1536, 8960, 12, 2, 128, 151936, qkv_bias=True),
        "deepseek-r1-distill-qwen-7b": _QWEN_7B,
        "deepseek-r1-distill-qwen-14b": _QWEN_14B,
        "deepseek-r1-distill-qwen-32b": _QWEN_32B,
        "deepseek-r1-distill-llama-8b": _LLAMA_8B,
        "deepseek-r1-distill-llama-70b": _LLAMA_70B,
        "deepseek-r1": Architecture(61, 7168, 18432, 128, 128, 128, 129280, latent=576, total=671_026_419_200),
        "seoul-medium-kr": _QWEN_14B,  # the platform's own checkpoint; sized as a 14B until its config.json is here
    }
)

# Whisper: 5 beams of self-attention keys and values (32 layers x 1280 x 448 tokens) and those of 1500 frames, in 16
# bits; with `work` it comes to the 4.5 GB that faster-whisper's own benchmark shows for large-v2 in 16 bits.
# Diffusion: the decoder of 1024 x 1024 pictures runs in tiles; without that it needs about 4 GiB more.
OTHERS: Mapping[str, Fixed] = MappingProxyType(
    {
        "whisper-large-v3": Fixed(1_543_490_560, per_slot=584 * MIB, work=512 * MIB, runtime="ctranslate2"),
        "e5-large-v2": Fixed(335_141_888, per_slot=0, work=512 * MIB),
        "multilingual-e5-large": Fixed(559_890_432, per_slot=0, work=512 * MIB),
        "all-minilm-l6-v2": Fixed(22_713_216, per_slot=32 * MIB, work=256 * MIB),
        "mediapipe-pose": Fixed(7_000_000, per_slot=64 * MIB, work=256 * MIB, runtime="mediapipe"),
        "pose-full": Fixed(7_000_000, per_slot=64 * MIB, work=256 * MIB, runtime="mediapipe"),
        "stable-diffusion-xl": Fixed(3_468_758_000, per_slot=0, work=1536 * MIB),
        "stable-diffusion-v1-5": Fixed(1_066_235_000, per_slot=0, work=1536 * MIB),
    }
)


def known(name: str) -> Architecture | Fixed | None:
    """The model of that name, path or hub id: the longest entry with which its last part begins."""
    last = re.sub(r"[\s_]+", "-", name.rstrip("/").rsplit("/", 1)[-1].lower())
    last = last.removeprefix("meta-").removeprefix("faster-")
    last = "whisper-" + last if last.startswith("large-v3") else last
    table: dict[str, Architecture | Fixed] = {**LANGUAGE, **OTHERS}
    found = max((key for key in table if last == key or last.startswith(f"{key}-")), key=len, default=None)
    return table[found] if found else None
