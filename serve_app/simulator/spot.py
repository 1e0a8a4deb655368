"""How many spot instances are to be had, over time."""

import csv
import random
from pathlib import Path

from serve_app.errors import ConfigError
from serve_app.simulator.run import SpotCap

DWELL_S = 2400.0
"""Mean time between two changes of a made-up market."""

DRY = 0.12
"""Share of the changes that leave nothing to be had."""

MOST = 8


def market(seconds: float, seed: int) -> SpotCap:
    """A made-up market: its level walks between 1 and `MOST`, and now and then there is nothing at all."""
    chance = random.Random(seed)
    level, t = chance.randint(3, MOST), 0.0
    steps = [(0.0, level)]
    while t < seconds:
        t += chance.expovariate(1 / DWELL_S)
        level = min(MOST, max(1, level + chance.choice((-3, -2, -1, 1, 2, 3))))
        steps.append((t, 0 if chance.random() < DRY else level))
    return tuple(steps)


def read_spot(path: Path) -> SpotCap:
    """Steps from a CSV file with the columns `t` and `spot_cap`, sorted."""
    try:
        with path.open(newline="") as file:
            steps = sorted((float(row["t"]), int(row["spot_cap"])) for row in csv.DictReader(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name} must be a CSV file with the numbers t and spot_cap: {error}") from error
    if not steps:
        raise ConfigError(f"{path.name} holds no line")
    return tuple(steps)
