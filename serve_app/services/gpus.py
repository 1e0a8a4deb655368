"""The GPUs of this machine, asked of NVIDIA's driver; no CUDA context is made for it."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from math import ceil

from serve_app.engine import EngineOptions
from serve_app.policies.cards import Card, cap

QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,memory.reserved,compute_cap", "--format=csv,noheader,nounits"]
ANSWER_S = 20


def machine_cards() -> list[Card]:
    """With the memory that CUDA can hand out; empty without a driver, or with one too old for the question."""
    if shutil.which(QUERY[0]) is None:
        return []
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=ANSWER_S, check=True)
        return read_cards(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return []


def read_cards(table: str) -> list[Card]:
    """Raises ValueError. What the driver keeps for itself is no part of the total that CUDA reports."""
    cards = []
    for line in filter(None, map(str.strip, table.splitlines())):
        name, total, reserved, capability = (cell.strip() for cell in line.rsplit(",", 3))
        cards.append(Card(name, (int(total) - int(reserved)) * 2**20, float(capability)))
    return cards


def limited(
    options: EngineOptions, gpus: float, installed: Callable[[], Sequence[Card]] = machine_cards
) -> EngineOptions:
    """The options of an engine with that many GPUs of this machine, or that fraction of one, as its limit of memory.

    That is `memory_fraction`, where an engine has such an option and the profile doesn't set it: Ray only keeps the
    books. Nothing is changed where no card can be found.
    """
    unset = getattr(options, "memory_fraction", 1.0) is None
    cards = installed() if unset and gpus > 0 else []
    if not cards:
        return options
    smallest = min(cards, key=lambda card: card.memory)
    return options.model_copy(update={"memory_fraction": cap(gpus / ceil(gpus), smallest)})
