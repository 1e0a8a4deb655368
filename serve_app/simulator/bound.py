"""What no policy can go below, even one that knows the future: a certified lower bound on the cost of a trace.

Time is cut into blocks. A request that starts within the engine's `wait` holds a slot, inside every block, for at least
the smaller of what it would hold if it started at once and if it started as late as it may. That much has to be paid
for: from own GPUs (as many as there are), spot instances (as many as are to be had) or on demand. Everything else is
given away: parts of instances, no cold starts, no minimum bill, no idle time, no queue discipline, and the 5 % of each
engine's requests that cost most are served for nothing.

The cost of a block is a linear program with two shared supplies. For any prices put on these, its dual value is a lower
bound, and so it is when each engine's dearest 5 % under these prices are left out. Prices that make it large are found
by turns: leave out, price anew, take the mean of all prices so far. The best of all turns and block lengths counts.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.simulator.run import SpotCap
from serve_app.simulator.setup import Cfg
from serve_app.simulator.trace import Trace

FREE = 0.05
BLOCKS_S = (60.0, 120.0, 300.0, 600.0)
TURNS = 30
HOUR_S = 3600.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Prices:
    """Of one engine, in dollars per slot-second."""

    own: float
    spot: float
    od: float
    slots_own: float
    slots_cloud: float


def lower_bound(trace: Trace, cfg: Cfg, spot: SpotCap, free: float = FREE) -> float:
    """Dollars: at most what the cheapest run costs in which no more than `free` of each engine's requests are late."""
    return max(0.0, *(_bound(trace, cfg, spot, block, free) for block in BLOCKS_S))


def _bound(trace: Trace, cfg: Cfg, spot: SpotCap, block: float, free: float) -> float:
    starts, held, owner = np.array(trace.t), seconds_held(trace, cfg), np.array(trace.engine)
    count = int((starts + held).max() // block) + 2
    prices = [_prices(cfg, name) for name in trace.engines]
    waits = np.array([cfg["engines"][name]["wait"] for name in trace.engines])
    parts = list(_parts(starts, held, waits[owner], block))
    supply = np.full(count, cfg["own_gpus"] * block), _spot_seconds(spot, block, count)
    load, best = _Load(owner, parts, (len(prices), count)), -np.inf
    kept, duals = np.ones(len(starts), dtype=bool), np.zeros((2, count))
    for turn in range(TURNS if free else 1):
        duals += (_duals(load.needed(kept), prices, supply) - duals) / (turn + 1)
        worth = load.worth(_units(prices, duals))
        kept = _dear(worth, owner, len(prices), free)
        best = max(best, float(worth[kept].sum() - duals[0] @ supply[0] - duals[1] @ supply[1]))
    return best


@dataclass(frozen=True, slots=True)
class _Load:
    """Who holds slots when: `parts` as `_parts` yields them."""

    owner: NDArray[np.int64]
    parts: list[tuple[NDArray[np.int64], Floats]]
    shape: tuple[int, int]

    def needed(self, kept: NDArray[np.bool_]) -> Floats:
        """Slot-seconds of those that are kept, per engine and block."""
        total = np.zeros(self.shape)
        for index, part in self.parts:
            np.add.at(total, (self.owner, index), part * kept)
        return total

    def worth(self, unit: Floats) -> Floats:
        """What every request costs at so much per slot-second, per engine and block."""
        total = np.zeros(len(self.owner))
        for index, part in self.parts:
            total += unit[self.owner, index] * part
        return total


def _dear(worth: Floats, owner: NDArray[np.int64], engines: int, free: float) -> NDArray[np.bool_]:
    """All but the dearest requests of each engine, as many as are free."""
    kept = np.ones(len(worth), dtype=bool)
    for engine in range(engines):
        mine = np.flatnonzero(owner == engine)
        count = int(len(mine) * free)
        if count:
            kept[mine[np.argpartition(worth[mine], -count)[-count:]]] = False
    return kept


def seconds_held(trace: Trace, cfg: Cfg) -> Floats:
    """How long every request holds its slot."""
    specs = [cfg["engines"][name] for name in trace.engines]
    fixed, prefill, tpot = (np.array([spec[key] for spec in specs]) for key in ("fixed", "prefill", "tpot"))
    owner = np.array(trace.engine)
    seconds = fixed[owner] + np.array(trace.prompt) / prefill[owner] + np.array(trace.output) * tpot[owner]
    return np.asarray(seconds, dtype=np.float64)


def _parts(starts: Floats, held: Floats, waits: Floats, block: float) -> Any:
    """Pairs (block of every request, seconds it surely holds a slot in it), block after block."""
    first = (starts // block).astype(np.int64)
    for step in range(int((held.max() + waits.max()) // block) + 2):
        index = first + step
        low, high = index * block, (index + 1) * block
        now, late = (
            np.clip(np.minimum(begin + held, high) - np.maximum(begin, low), 0, None)
            for begin in (starts, starts + waits)
        )
        part = np.minimum(now, late)
        if part.any():
            yield np.where(part > 0, index, first), part


def _prices(cfg: Cfg, name: str) -> _Prices:
    spec = cfg["engines"][name]
    own, cloud = float(spec["slots"]["own"]), float(spec["slots"]["cloud"])
    power = cfg["w_busy"] / 1000 * cfg["kwh"] / HOUR_S
    spot, od = (spec.get(key, cfg[key]) / HOUR_S for key in ("spot_per_h", "od_per_h"))
    return _Prices(power / own, spot / cloud, od / cloud, own, cloud)


def _spot_seconds(spot: SpotCap, block: float, count: int) -> Floats:
    """Instance-seconds of spot that are to be had in every block."""
    if not spot:
        return np.full(count, 1e12)
    edges = np.arange(count + 1) * block
    total = np.zeros(count + 1)
    for (begin, cap), end in zip(spot, [*(t for t, _ in spot[1:]), edges[-1] + 1], strict=True):
        total += cap * np.clip(edges - begin, 0, max(0.0, end - begin))
    return np.diff(total)


def _duals(needed: Floats, prices: list[_Prices], supply: tuple[Floats, Floats]) -> Floats:
    """Per block the best prices of an own and of a spot instance-second."""
    best = np.full(needed.shape[1], -np.inf)
    found = np.zeros((2, needed.shape[1]))
    for mu, nu in _candidates(prices):
        row = np.array([min(p.own + mu / p.slots_own, p.spot + nu / p.slots_cloud, p.od) for p in prices])
        value = row @ needed - mu * supply[0] - nu * supply[1]
        better = value > best
        best = np.where(better, value, best)
        found = np.where(better, np.array([[mu], [nu]]), found)
    return found


def _units(prices: list[_Prices], duals: Floats) -> Floats:
    """The cheapest slot-second of every engine in every block, at these prices of the supplies."""
    rows = [
        np.minimum(np.minimum(p.own + duals[0] / p.slots_own, p.spot + duals[1] / p.slots_cloud), p.od) for p in prices
    ]
    return np.array(rows)


def _candidates(prices: list[_Prices]) -> list[tuple[float, float]]:
    """Prices of an own and of a spot instance-second at which the cheapest choice of an engine changes."""
    nus = {0.0, *(max(0.0, (p.od - p.spot) * p.slots_cloud) for p in prices)}
    mus = {0.0}
    for p, nu in product(prices, nus):
        for cloud in (p.od, p.spot + nu / p.slots_cloud):
            mus.add(max(0.0, (cloud - p.own) * p.slots_own))
    return list(product(sorted(mus), sorted(nus)))
