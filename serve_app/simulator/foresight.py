"""What somebody who knew the trace beforehand would pay, played through the same simulator as everybody else.

The lower bound of `bound.py` is certain and far away, since it gives away cold starts and parts of instances. This is
the other side: a plan that can be carried out, so the best plan costs no more. Together they enclose it.

Load is cut into levels, one for each cloud instance that it takes beyond the own GPUs. A level's instance starts its
cold start before the load reaches the level, and is kept through a gap that is shorter than a cold start. The stretches
that cost most for the requests that they serve are left out, as many as may be. Own GPUs stay with one engine; all
divisions are tried. Spot is taken for a stretch if the market, known as well, lasts all through it. How much is left
out, engine by engine, or how much room there is above the load, is found by replaying plans.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.simulator.bound import FREE, Floats, seconds_held
from serve_app.simulator.run import Outcome, Policy, SpotCap, simulate
from serve_app.simulator.setup import Cfg
from serve_app.simulator.trace import Trace

ROOM, OMITTED = 1.0, 0.5
"""At most so much more than the load, or less: what is left out may find a slot all the same."""

TRIES = 10


@dataclass(frozen=True, slots=True)
class _Stretch:
    """An instance from its start at tick `begin` to `end`, and the slot-seconds of load that want it."""

    begin: int
    end: int
    load: float


def foresight(trace: Trace, cfg: Cfg, spot: SpotCap, free: float = FREE) -> Outcome | None:
    """The cheapest plan found in which no more than `free` of any engine's requests are late; `None` if none was."""
    loads = _loads(trace, cfg)
    good, bad = dict.fromkeys(trace.engines, -1.0), dict.fromkeys(trace.engines, 1.0)
    best: Outcome | None = None
    for turn in range(TRIES):
        last = turn == TRIES - 1
        thrift = good if last else {name: (good[name] + bad[name]) / 2 for name in trace.engines}
        outcome = simulate(trace, cfg, _planned(loads, cfg, spot, thrift), spot)
        in_time = {name: outcome.attainment(name) >= 1 - free for name in trace.engines}
        if all(in_time.values()) and (best is None or outcome.total < best.total):
            best = outcome
        for name, kept in in_time.items():
            (good if kept else bad)[name] = thrift[name]
    return best


def _loads(trace: Trace, cfg: Cfg) -> dict[str, Floats]:
    """Slots in use on average in every tick, if nobody waited, per engine."""
    tick, owner = float(cfg["tick_s"]), np.array(trace.engine)
    starts, held = np.array(trace.t, dtype=np.float64), seconds_held(trace, cfg)
    edges = np.arange(int(starts.max() // tick) + 3, dtype=np.float64) * tick
    loads = {}
    for number, name in enumerate(trace.engines):
        mine = owner == number
        begun = _seconds_before(edges, starts[mine])
        ended = _seconds_before(edges, starts[mine] + held[mine])
        loads[name] = np.diff(begun - ended) / tick
    return loads


def _seconds_before(edges: Floats, times: Floats) -> Floats:
    """For every edge the sum over `times` of the seconds that have passed since, where they have."""
    times = np.sort(times)
    count = np.searchsorted(times, edges)
    passed: Floats = count * edges - np.concatenate([[0.0], np.cumsum(times)])[count]
    return passed


def _planned(loads: dict[str, Floats], cfg: Cfg, spot: SpotCap, thrift: dict[str, float]) -> Policy:
    """The cheapest plan over all divisions of the own GPUs, as a policy.

    `thrift`: from 1, where half of the load is left out, over 0 to -1, where there is room for twice the load.
    """
    plans = {}
    for name, load in loads.items():
        roomy, omit = load * (1 + ROOM * max(0.0, -thrift[name])), OMITTED * max(0.0, thrift[name])
        plans[name] = [_stretches(roomy, cfg, name, own, omit) for own in range(cfg["own_gpus"] + 1)]
    prices = {name: cfg["engines"][name].get("od_per_h", cfg["od_per_h"]) for name in loads}
    costs = {name: [prices[name] * sum(s.end - s.begin for s in plan) for plan in each] for name, each in plans.items()}
    division = min(
        _divisions(cfg["own_gpus"], list(loads)), key=lambda own: sum(costs[name][count] for name, count in own.items())
    )
    chosen = {name: plans[name][division[name]] for name in loads}
    counts = _counts(chosen, cfg, spot, max(map(len, loads.values())), prices)

    def decide(t: float, _obs: dict[str, Any], _mem: dict[str, Any]) -> dict[str, dict[str, int]]:
        tick = round(t / cfg["tick_s"])
        return {
            name: {"own": division[name], "spot": int(row[0, tick]), "od": int(row[1, tick])}
            if tick < row.shape[1]
            else {"own": division[name], "spot": 0, "od": 0}
            for name, row in counts.items()
        }

    return decide


def _divisions(left: int, names: list[str]) -> Iterator[dict[str, int]]:
    if not names:
        yield {}
        return
    for count in range(left + 1):
        for rest in _divisions(left - count, names[1:]):
            yield {names[0]: count, **rest}


def _stretches(load: Floats, cfg: Cfg, name: str, own: int, omit: float) -> list[_Stretch]:
    """Every level's stretches, without those that cost most for what they serve."""
    spec, tick = cfg["engines"][name], cfg["tick_s"]
    cold, slots = int(np.ceil(spec["cold"]["cloud"] / tick)), spec["slots"]["cloud"]
    beyond = np.clip(load - own * spec["slots"]["own"], 0, None)
    found = []
    while beyond.any():
        found += _level(np.minimum(beyond, slots) * tick, cold)
        beyond = np.clip(beyond - slots, 0, None)
    allowed = omit * load.sum() * tick
    kept = []
    for stretch in sorted(found, key=lambda s: s.load / (s.end - s.begin)):
        if stretch.load <= allowed:
            allowed -= stretch.load
        else:
            kept.append(stretch)
    return kept


def _level(load: Floats, cold: int) -> list[_Stretch]:
    on = np.flatnonzero(load)
    breaks = np.flatnonzero(np.diff(on) > cold + 1)
    first, last = on[np.concatenate([[0], breaks + 1])], on[np.concatenate([breaks, [len(on) - 1]])]
    return [_Stretch(max(0, a - cold), b + 1, float(load[a : b + 1].sum())) for a, b in zip(first, last, strict=True)]


def _counts(
    plans: dict[str, list[_Stretch]], cfg: Cfg, spot: SpotCap, ticks: int, od: dict[str, float]
) -> dict[str, NDArray[np.int64]]:
    """Per engine the instances on spot and on demand in every tick; the longest stretches take spot first."""
    left = _market(spot, ticks, cfg["tick_s"])
    counts = {name: np.zeros((2, ticks), dtype=np.int64) for name in plans}
    spread = {name: od[name] - cfg["engines"][name].get("spot_per_h", cfg["spot_per_h"]) for name in plans}
    each = [(spread[name] * (s.end - s.begin), name, s) for name, plan in plans.items() for s in plan]
    for _, name, stretch in sorted(each, key=lambda item: -item[0]):
        span = slice(stretch.begin, stretch.end)
        lasts = bool((left[span] > 0).all())
        left[span] -= lasts
        counts[name][0 if lasts else 1, span] += 1
    return counts


def _market(spot: SpotCap, ticks: int, tick: float) -> NDArray[np.int64]:
    """Spot instances to be had, at least, in every tick."""
    if not spot:
        return np.full(ticks, np.iinfo(np.int64).max // 2)
    caps = np.full(ticks, spot[0][1], dtype=np.int64)
    for (begin, cap), (end, following) in pairwise([*spot, (ticks * tick, spot[-1][1])]):
        caps[int(begin // tick) + 1 : int(end // tick)] = cap
        caps[int(end // tick) : int(end // tick) + 1] = min(cap, following)
    return caps
