"""How many instances of which engine: the cheapest fleet, where a request that waits too long has a price, too."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.policies.fleet_load import Outlook
from serve_app.policies.fleet_obs import Seen, Spec, World

HOLD_S = 150.0
"""An instance is expected to stay so long; starting it has to pay off in that time."""

MOVE_S = 600.0
"""Draining before a move, and the risk that it has to be undone, as seconds of an instance."""

MOST_TRIED = 100
"""Fleets of more instances are planned in steps of several."""

EVERY = 8
"""Every so many of the loads that may be are enough to see what a loss would do."""

STEPS = (0.0, 0.25, 0.5, 1.0)


Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    own: dict[str, int]
    cloud: dict[str, int]


@dataclass(slots=True)
class _Options:
    """The best that an engine can do with 0, 1, 2 … own GPUs: cost in dollars per second, and cloud instances."""

    cost: list[float]
    cloud: list[int]


def plan(world: World, outlooks: dict[str, Outlook], spot_cap: int) -> Plan:
    """Own GPUs go where they save most; what is missing is rented, and if spot runs short, at a higher price."""
    found = Plan({}, {})
    misses = {name: _misses(outlook, world.specs[name], world.tick_s) for name, outlook in outlooks.items()}
    for step in STEPS:
        options = {name: _options(world, name, outlook, misses[name], step) for name, outlook in outlooks.items()}
        found = _share(options, world.own_gpus)
        if sum(found.cloud.values()) <= spot_cap:
            break
    return found


def _options(world: World, name: str, outlook: Outlook, misses: Callable[[int], float], step: float) -> _Options:
    spec, seen = world.specs[name], world.seen[name]
    price = spec.spot + step * max(0.0, spec.od - spec.spot)
    price = max(price, 1e-9)
    most = max((*outlook.series, *(load for _, load in outlook.guesses)), default=0.0)
    most += min(most, outlook.backlog / HOLD_S * 4)
    top = math.ceil(most / spec.slots_cloud) + 1 if outlook.known else 0
    have = seen.have(1) + seen.have(2)
    start = price * (1 + spec.cold_cloud / HOLD_S)
    options = _Options([], [])
    stride = math.ceil((top + 1) / MOST_TRIED)
    for own in range(min(world.own_gpus, math.ceil(most / spec.slots_own) + 1, MOST_TRIED) + 1):
        best, best_cloud = math.inf, 0
        for cloud in range(0, top + stride, stride):
            slots = own * spec.slots_own + cloud * spec.slots_cloud
            cost = min(cloud, have) * price + max(0, cloud - have) * start + misses(slots)
            if cost < best:
                best, best_cloud = cost, cloud
        options.cost.append(best + own * world.idle + _moving(world, seen, spec, own, price))
        options.cloud.append(best_cloud)
    return options


def insurance(spec: Spec, seen: Seen, outlook: Outlook, own: int, counts: Pair, cap: int, losses: float) -> int:
    """How many spot instances are to be on-demand ones instead, for the risk of losing them.

    `counts` are those on spot and on demand without it. `losses` is how often the market falls, per second: half the
    times to half of `cap`, half the times to nothing.
    """
    spot, od = counts
    if not spot or not outlook.known:
        return 0
    surcharge = max(0.0, spec.od - spec.spot)
    best, chosen = math.inf, 0
    for more in range(spot + 1):
        cost = more * surcharge + max(0, od + more - seen.have(2)) * spec.od * spec.cold_cloud / HOLD_S
        safe = own * spec.slots_own + (od + more) * spec.slots_cloud
        left = min(spot - more, cap // 2) * spec.slots_cloud
        late = (_late_after_loss(outlook, spec, safe) + _late_after_loss(outlook, spec, safe + left)) / 2
        if cost + losses * late * outlook.miss_usd < best:
            best, chosen = cost + losses * late * outlook.miss_usd, more
    return chosen


def _late_after_loss(outlook: Outlook, spec: Spec, slots: int) -> float:
    """Requests that wait too long until what is ordered at the loss is warm, on average over the loads that may be."""
    loads = outlook.series[::EVERY] or (outlook.level,)
    late = 0.0
    for load in loads:
        if load > slots:
            late += load * max(0.0, spec.cold_cloud - spec.wait * slots / (load - slots))
    return late / len(loads) / max(0.05, outlook.service_s)


def _moving(world: World, seen: Seen, spec: Spec, own: int, price: float) -> float:
    """An own GPU that changes hands serves nobody while one engine drains and the other loads."""
    taken = max(0, own - seen.have(0) - world.own_free)
    return taken * price * spec.slots_own / spec.slots_cloud * (spec.cold_own + MOVE_S) / HOLD_S


def _misses(outlook: Outlook, spec: Spec, tick_s: float) -> Callable[[int], float]:
    """Dollars per second for requests that wait too long with so many slots."""
    known: dict[int, float] = {}

    def misses(slots: int) -> float:
        if slots not in known:
            known[slots] = outlook.miss_usd / max(0.05, outlook.service_s) * _late(outlook, slots, spec.wait, tick_s)
        return known[slots]

    return misses


def _late(outlook: Outlook, slots: int, wait: float, tick_s: float) -> float:
    """The part of the load that waits too long: what is expected, run through a queue of so many slots."""
    late = _queue(outlook.series, slots, wait, tick_s)
    weight = float(len(outlook.series))
    for ticks, load in outlook.guesses:
        late += ticks * load * (load > slots)
        weight += ticks
    late /= weight
    over = outlook.backlog - wait * slots
    if over > 0:
        clear = over / max(0.5, slots - outlook.level)
        late += outlook.level * min(1.0, clear / HOLD_S)
    return late


def _queue(series: tuple[float, ...], slots: int, wait: float, tick_s: float) -> float:
    """Sum over the ticks of the load that arrives while the wait is above the limit."""
    if not series or max(series) <= slots:
        return 0.0
    able, late, before = wait * slots, 0.0, 0.0
    for load in series:
        after = before + (load - slots) * tick_s
        if after <= 0:
            after = 0.0
        if after > able or before > able:
            high, low = (after, before) if after > before else (before, after)
            late += load if low >= able else load * (high - able) / (high - low)
        before = after
    return late


def _share(options: dict[str, _Options], own_gpus: int) -> Plan:
    """Divide the own GPUs by dynamic programming over the engines."""
    own_gpus = min(own_gpus, sum(len(option.cost) - 1 for option in options.values()))
    best, choices = [0.0] * (own_gpus + 1), []
    for option in options.values():
        row, choice = [], []
        for gpus in range(own_gpus + 1):
            costs = [best[gpus - own] + option.cost[own] for own in range(min(gpus, len(option.cost) - 1) + 1)]
            least = min(costs)
            row.append(least)
            choice.append(costs.index(least))
        best = row
        choices.append(choice)
    left, own = own_gpus, {}
    for name, choice in zip(reversed(options), reversed(choices), strict=True):
        own[name] = choice[left]
        left -= own[name]
    return Plan(own, {name: options[name].cloud[count] for name, count in own.items()})
