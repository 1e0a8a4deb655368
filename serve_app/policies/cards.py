"""GPUs, and how much of one an engine may take."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from types import MappingProxyType

GIB = 2**30

CONTEXT = GIB // 2
"""What a process holds on a card before it allocates anything: its CUDA context and kernels.

0.4 to 0.6 GiB in the error messages of processes that share a card. Neither vLLM's nor torch's limit counts it.
"""

HIGHEST = 0.98
"""The largest share of a card that is planned with; the rest is lost to the allocator's rounding and fragments."""


@dataclass(frozen=True, slots=True)
class Card:
    """`memory`: bytes as CUDA reports them, of which fractions are taken; less than the box and nvidia-smi say."""

    name: str
    memory: int
    capability: float

    @property
    def fp8_kv(self) -> bool:
        """Kernels that read an FP8 KV cache (e4m3) need Ada, Hopper or newer."""
        return self.capability >= 8.9

    def budget(self, fraction: float) -> int:
        """Bytes of one card that belong to an engine with that fraction of it, its CUDA context included."""
        return floor(min(fraction, HIGHEST) * self.memory)


def _card(name: str, gib: float, capability: float) -> Card:
    return Card(name, floor(gib * GIB), capability)


# The smallest totals in logs of vLLM and torch ("total capacity of ..."); some cards show a little more.
CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "rtx-5090": _card("RTX 5090", 31.36, 12.0),
        "rtx-4090": _card("RTX 4090", 23.51, 8.9),
        "l4": _card("L4", 21.95, 8.9),
        "t4": _card("T4", 14.56, 7.5),
        "a100-40": _card("A100-40", 39.39, 8.0),
        "a100-80": _card("A100-80", 79.14, 8.0),
        "h100": _card("H100", 79.10, 9.0),
        "h200": _card("H200", 139.72, 9.0),
    }
)


def card(name: str) -> Card:
    """The card of that name, however it is written. Raises ValueError."""
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    key = re.sub(r"^(nvidia-)?(geforce-|tesla-)?", "", key)
    key = re.sub(r"^(a100)(?:-sxm4|-pcie)?-(\d+)(?:gb)?$", r"\1-\2", key)
    key = re.sub(r"^(h100|h200).*$", r"\1", key)
    if key in CARDS:
        return CARDS[key]
    raise ValueError(f"no card '{name}'; cards: {', '.join(CARDS)}")


def cap(fraction: float, of: Card) -> float:
    """The share of a card to give an engine as its limit, so that with its CUDA context it stays within `fraction`.

    vLLM takes it as `gpu_memory_utilization` (its weights, activations and KV cache together, of the card's total:
    `request_memory` in vllm/v1/worker/utils.py), torch as `set_per_process_memory_fraction`. CTranslate2 has no such
    setting: what it takes follows from its weights, slots and context, which is why a plan is all that holds it.
    """
    share = (of.budget(fraction) - CONTEXT) / of.memory
    if share <= 0:
        raise ValueError(f"{fraction} of one {of.name} is less than a CUDA context takes; give the engine more")
    return floor(share * 10_000) / 10_000
