"""The fleet policy: how many instances every engine should have, on own GPUs, on spot and on demand.

`decide` is pure. It is asked every `cfg.tick_s`, in a cluster or in a simulator, and keeps what it has learned in `mem`
only. docs/fleet.md describes the door for those who plug in their own policy or their own world.
"""

import math
from typing import Any

from serve_app.policies.fleet_load import observe, outlook
from serve_app.policies.fleet_obs import UNBOUNDED, Seen, Spec, World, read
from serve_app.policies.fleet_plan import Pair, Plan, insurance, plan

Counts = dict[str, dict[str, int]]


def decide(t: float, obs: Any, mem: dict[str, Any]) -> Counts:
    """Counts per engine and pool: `{"own": n, "spot": n, "od": n}`. A count below what there is drains."""
    world = read(obs)
    engines = mem.setdefault("engines", {})
    outlooks = {}
    for name, seen in world.seen.items():
        mine = engines.setdefault(name, {})
        observe(mine, t, seen, world.specs[name], world.tick_s)
        outlooks[name] = outlook(mine, seen, world.specs[name])
    for gone in set(engines) - set(world.seen):
        del engines[gone]
    cap = _spot_cap(world, mem)
    chosen = plan(world, outlooks, cap)
    for name, count in chosen.cloud.items():
        chosen.cloud[name] = _lingering(engines[name], t, count, world.seen[name], world.specs[name].wait)
    _keep_warm(world, chosen, engines, t)
    losses = _losses(world, t, mem)
    pairs = {}
    for name, spot in _spot(world, chosen, cap).items():
        pair = spot, chosen.cloud[name] - spot
        more = insurance(world.specs[name], world.seen[name], outlooks[name], chosen.own[name], pair, cap, losses)
        more = min(spot, _most_lately(engines[name], "insured", t, more, INSURED_S))
        pairs[name] = spot - more, pair[1] + more
    counts = _placed(world, chosen, pairs)
    mem["asked"] = sum(count["spot"] for count in counts.values())
    return counts


LINGER_S = 60.0


INSURED_S = 900.0
"""The risk of losing spot changes slowly; to exchange instances to and fro for it costs more than to stay."""


def _lingering(mine: dict[str, Any], t: float, count: int, seen: Seen, wait: float) -> int:
    """What there is stays until it has not been wanted for a while: one quiet moment is no reason to let go.

    While requests are late, an order stands: without it they may be as late again before the next one is warm.
    """
    have, lately = seen.have(1) + seen.have(2), _most_lately(mine, "wanted", t, count, LINGER_S)
    return max(count, have if seen.oldest_wait > wait else min(lately, have))


def _most_lately(mine: dict[str, Any], key: str, t: float, count: int, within_s: float) -> int:
    mine[key] = [*((when, was) for when, was in mine.get(key, ()) if 0 <= t - when < within_s), (t, count)]
    return int(max(was for _, was in mine[key]))


IDLE_S = 1800.0


def _keep_warm(world: World, chosen: Plan, engines: dict[str, Any], t: float) -> None:
    """An own GPU that nobody else wants stays loaded for half an hour: it costs little, and loading takes long."""
    left = world.own_gpus - sum(chosen.own.values())
    for name, seen in world.seen.items():
        mine = engines[name]
        if chosen.own[name] >= seen.have(0):
            mine["idle_since"] = t
        elif t - mine.get("idle_since", t) < IDLE_S:
            stay = min(left, seen.have(0) - chosen.own[name])
            chosen.own[name] += stay
            left -= stay


PATIENCE = 2
COOL_DOWN = 30


def _spot_cap(world: World, mem: dict[str, Any]) -> int:
    """Spot instances that can be counted on: what is said to be there, unless asking for it has not helped."""
    held = sum(seen.have(1) for seen in world.seen.values())
    refused = mem.get("asked", 0) > held and world.spot_cap > held
    mem["refused"] = mem.get("refused", 0) + 1 if refused else 0
    if mem["refused"] > PATIENCE:
        mem["cool"], mem["refused"] = COOL_DOWN, 0
    mem["cool"] = max(0, mem.get("cool", 0) - 1)
    return held if mem["cool"] else max(world.spot_cap, held)


LOSS_S = 4 * 3600.0
"""Before any loss is seen, the spot market is expected to fall once in so long; it weighs as much as one that fell."""

MARKET_S = 6 * 3600.0


def _losses(world: World, t: float, mem: dict[str, Any]) -> float:
    """How often spot is lost, per second: from the times that it was, or that the market fell by half or more."""
    held, cap, last = sum(seen.have(1) for seen in world.seen.values()), world.spot_cap, mem.get("market")
    if last is None or not 0 <= t - last["t"] < MARKET_S:
        last = {"t": t, "for": LOSS_S, "fell": 1.0, "held": 0, "cap": cap}
    fell = held < min(last["held"], mem.get("asked", 0)) or cap <= last["cap"] // 2 < last["cap"]
    keep = math.exp(-(t - last["t"]) / MARKET_S)
    watched = t - last["t"] if last["held"] or cap < UNBOUNDED else 0.0
    mem["market"] = last = {
        "t": t,
        "for": last["for"] * keep + watched,
        "fell": last["fell"] * keep + fell,
        "held": held,
        "cap": cap,
    }
    return float(last["fell"] / max(last["for"], 1.0))


def _placed(world: World, chosen: Plan, pairs: dict[str, Pair]) -> Counts:
    counts: Counts = {}
    for name, seen in world.seen.items():
        counts[name] = _bridged(seen, world.specs[name], chosen.own[name], *pairs[name])
    _fit_own(world, counts)
    return counts


def _spot(world: World, chosen: Plan, cap: int) -> dict[str, int]:
    """Who gets the spot instances: first who has them, then where they save most."""
    given = {name: min(chosen.cloud[name], seen.have(1)) for name, seen in world.seen.items()}
    left = cap - sum(given.values())
    for name in sorted(given, key=lambda engine: world.specs[engine].spot - world.specs[engine].od):
        more = max(0, min(left, chosen.cloud[name] - given[name]))
        given[name] += more
        left -= more
    return given


def _bridged(seen: Seen, spec: Spec, own: int, spot: int, od: int) -> dict[str, int]:
    """Replacement first: what is to go stays until what comes in its place is warm."""
    need = own * spec.slots_own + (spot + od) * spec.slots_cloud
    need -= min(own, seen.ready[0]) * spec.slots_own
    need -= (min(spot, seen.ready[1]) + min(od, seen.ready[2])) * spec.slots_cloud
    keep = {"own": own, "spot": spot, "od": od}
    for pool, name, slots in ((0, "own", spec.slots_own), (1, "spot", spec.slots_cloud), (2, "od", spec.slots_cloud)):
        spare = max(0, seen.ready[pool] - keep[name])
        stay = min(spare, max(0, math.ceil(need / slots)))
        keep[name] += stay
        need -= stay * slots
    return keep


def _fit_own(world: World, counts: Counts) -> None:
    """What is kept for a while longer is not there yet for those who are to have it."""
    over = sum(count["own"] for count in counts.values()) - world.own_gpus
    for name, seen in world.seen.items():
        fresh = max(0, counts[name]["own"] - seen.have(0))
        cut = max(0, min(over, fresh))
        counts[name]["own"] -= cut
        over -= cut
    for name in counts:
        cut = max(0, min(over, counts[name]["own"]))
        counts[name]["own"] -= cut
        over -= cut
