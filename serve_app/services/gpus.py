"""The GPUs of this machine, asked of NVIDIA's driver; no CUDA context is made for it."""

import shutil
import subprocess

from serve_app.policies.cards import Card

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
