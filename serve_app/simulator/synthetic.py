"""Made-up traces, the same for the same seed: for tests, and for a try without data."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from serve_app.simulator.trace import Trace


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests per second of an engine on average, how much they swing over the whole trace, and their tokens.

    `bursts`: so many seconds of every `cycle_s` have `burst_times` the rate, the others the rest.
    """

    rps: float
    prompt: int = 1000
    output: int = 200
    swing: float = 0.0
    burst_times: float = 1.0
    burst_s: float = 0.0
    cycle_s: float = 300.0

    def rate(self, t: float, seconds: float) -> float:
        daily = 1 + self.swing * math.sin(2 * math.pi * t / seconds)
        bursting = t % self.cycle_s < self.burst_s
        return self.rps * daily * (self.burst_times if bursting else 1.0)

    @property
    def most(self) -> float:
        return self.rps * (1 + self.swing) * max(1.0, self.burst_times)


def synthetic(demands: Mapping[str, Demand], seconds: float, seed: int = 0) -> Trace:
    """Poisson arrivals of every engine, lengths log-normal around the given means."""
    chance = random.Random(seed)
    rows: list[tuple[float, int, int, int]] = []
    for index, demand in enumerate(demands.values()):
        t = chance.expovariate(demand.most)
        while t < seconds:
            if chance.random() < demand.rate(t, seconds) / demand.most:
                rows.append((t, index, _length(chance, demand.prompt), _length(chance, demand.output)))
            t += chance.expovariate(demand.most)
    rows.sort()
    times = [row[0] for row in rows]
    return Trace(tuple(demands), times, [row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows])


def _length(chance: random.Random, mean: int) -> int:
    return max(1, round(mean * chance.lognormvariate(-0.125, 0.5)))
