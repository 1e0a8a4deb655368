"""Policies to compare with, behind the same door as the real one.

Each knows load only by requests, scales every engine by itself, and asks for own GPUs first, then spot, then on-demand,
as a cluster autoscaler with priorities places replicas.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Counts = dict[str, dict[str, int]]
Obs = Mapping[str, Any]
Decide = Callable[[float, Obs, dict[str, Any]], Counts]
Wants = Callable[[float, Obs, dict[str, Any], str], float]
"""Slots that an engine should have."""

Sizes = tuple[int, int]
LOOK_BACK_S = 30.0
UNBOUNDED = 10**6


def always_on(peak_slots: Mapping[str, int]) -> Decide:
    """What is rented when nobody scales: enough for the highest load, all day, and no spot."""

    def decide(_t: float, obs: Obs, _mem: dict[str, Any]) -> Counts:
        return _placed(obs, {name: peak_slots.get(name, 0) for name in obs["engines"]})

    return decide


def ray_serve(share: float | None = None, up_s: float = 30.0, down_s: float = 600.0) -> Decide:
    """Ray Serve's own policy: requests in the engine over `target_ongoing_requests`, their mean of 30 s.

    `share` is the part of an instance's slots that is aimed at, with cloud instances counted by their own, larger
    number of slots, which is kinder than one target for all. Without it, Serve's default: 2 requests per replica,
    whatever it could take. A decision must stand for 30 s to scale up and for 600 s to scale down, the defaults.
    """

    def wants(t: float, obs: Obs, mem: dict[str, Any], name: str) -> float:
        seen = obs["engines"][name]
        return _mean(t, mem, name, seen["queued"] + seen["running"], LOOK_BACK_S) / (share or 1.0)

    def size(spec: Mapping[str, Any]) -> Sizes:
        return (2, 2) if share is None else (spec["slots"]["own"], spec["slots"]["cloud"])

    return _scaler(wants, size, up_s, down_s)


def skyserve(share: float = 0.7, window_s: float = 60.0, up_s: float = 300.0, down_s: float = 1200.0) -> Decide:
    """SkyServe: requests per second in the last minute over what one replica does, up after 5 min, down after 20.

    On spot, with on-demand as a fallback while spot is not to be had. What a slot does per second is set beforehand by
    the operator; here from a request of 1,000 tokens in and 200 out.
    """

    def wants(t: float, obs: Obs, mem: dict[str, Any], name: str) -> float:
        seen, spec = obs["engines"][name], obs["cfg"]["engines"][name]
        rate = _mean(t, mem, name, seen["arrivals"] / obs["cfg"]["tick_s"], window_s)
        return rate * float(spec["fixed"] + 1000 / spec["prefill"] + 200 * spec["tpot"]) / share

    def size(spec: Mapping[str, Any]) -> Sizes:
        return spec["slots"]["own"], spec["slots"]["cloud"]

    return _scaler(wants, size, up_s, down_s)


def _scaler(wants: Wants, size: Callable[[Mapping[str, Any]], Sizes], up_s: float, down_s: float) -> Decide:
    """Every engine by itself: own GPUs while there are any, then spot, then on-demand."""

    def decide(t: float, obs: Obs, mem: dict[str, Any]) -> Counts:
        free = {"own": int(obs["own_free"]), "spot": int(obs["spot_cap"]), "od": UNBOUNDED}
        free["spot"] -= sum(seen["ready"]["spot"] + seen["starting"]["spot"] for seen in obs["engines"].values())
        counts: Counts = {}
        for name, seen in obs["engines"].items():
            own, cloud = size(obs["cfg"]["engines"][name])
            sizes = {"own": own, "spot": cloud, "od": cloud}
            have = {pool: seen["ready"][pool] + seen["starting"][pool] for pool in sizes}
            target = _fitted(have, sizes, max(1.0, wants(t, obs, mem, name)), free)
            counts[name] = target if _stands(t, mem, name, have, target, up_s, down_s) else have
            for pool in sizes:
                free[pool] -= max(0, counts[name][pool] - have[pool])
        return counts

    return decide


def _fitted(have: Mapping[str, int], sizes: Mapping[str, int], want: float, free: Mapping[str, int]) -> dict[str, int]:
    """The dearest go first while enough stays, and the cheapest come first until there is enough."""
    target, total = dict(have), sum(have[pool] * sizes[pool] for pool in sizes)
    for pool in reversed(list(sizes)):
        while target[pool] and total - sizes[pool] >= want:
            target[pool] -= 1
            total -= sizes[pool]
    for pool in sizes:
        more = min(max(0, free[pool]), max(0, math.ceil((want - total) / sizes[pool])))
        target[pool] += more
        total += more * sizes[pool]
    return target


def _stands(
    t: float,
    mem: dict[str, Any],
    name: str,
    have: Mapping[str, int],
    target: Mapping[str, int],
    up_s: float,
    down_s: float,
) -> bool:
    """Whether the same direction has been wanted for long enough; the first replica comes at once."""
    now, then = sum(have.values()), sum(target.values())
    way = (then > now) - (then < now)
    since, before = mem.get(f"way {name}", (t, 0))
    since = since if way == before else t
    mem[f"way {name}"] = (since, way)
    ripe = not now or way == 0 or t - since >= (up_s if way > 0 else down_s)
    if ripe:
        mem[f"way {name}"] = (t, 0)
    return ripe


def _mean(t: float, mem: dict[str, Any], name: str, value: float, window_s: float) -> float:
    recent: list[tuple[float, float]] = mem.setdefault(f"recent {name}", [])
    recent.append((t, value))
    while recent[0][0] <= t - window_s:
        recent.pop(0)
    return sum(value for _, value in recent) / len(recent)


def _placed(obs: Obs, slots: Mapping[str, int]) -> Counts:
    """Instances for so many slots: own GPUs in turn to the engine with the most slots still to be had."""
    specs = obs["cfg"]["engines"]
    left, counts = dict(slots), {name: {"own": 0, "spot": 0, "od": 0} for name in slots}
    for _ in range(int(obs["cfg"]["own_gpus"])):
        name = max(left, key=lambda engine: left[engine] / specs[engine]["slots"]["cloud"], default=None)
        if name is not None and left[name] > 0:
            counts[name]["own"] += 1
            left[name] -= specs[name]["slots"]["own"]
    for name, missing in left.items():
        counts[name]["od"] = max(0, math.ceil(missing / specs[name]["slots"]["cloud"]))
    return counts
