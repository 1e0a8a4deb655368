"""Policies to compare with, behind the same door as the real one.

Each knows load only by requests, scales every engine by itself, and asks for own GPUs first, then spot, then on-demand,
as a cluster autoscaler with priorities places replicas.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Counts = dict[str, dict[str, int]]
Obs = Mapping[str, Any]
Wants = Callable[[float, Obs, dict[str, Any], str], int]
"""Slots that an engine should have."""


def always_on(peak_slots: Mapping[str, int]) -> Callable[[float, Obs, dict[str, Any]], Counts]:
    """What is rented when nobody scales: enough for the highest load, all day, and no spot."""

    def decide(_t: float, obs: Obs, _mem: dict[str, Any]) -> Counts:
        return _placed(obs, {name: peak_slots.get(name, 0) for name in obs["engines"]}, spot=False)

    return decide


def ray_serve(target: float | None = None, up_s: float = 30.0, down_s: float = 600.0) -> Any:
    """Ray Serve's own policy: replicas = requests in the engine / `target_ongoing_requests`, after a delay.

    `target` is the share of an own replica's slots that is aimed at; without it Serve's default of 2 requests each.
    A decision must stand for 30 s before it scales up and for 600 s before it scales down, the defaults.
    """

    def wants(t: float, obs: Obs, mem: dict[str, Any], name: str) -> int:
        seen, slots = obs["engines"][name], obs["cfg"]["engines"][name]["slots"]["own"]
        ongoing = seen["queued"] + seen["running"]
        per_replica = 2.0 if target is None else target * slots
        now = sum(seen["ready"].values()) + sum(seen["starting"].values())
        return _delayed(t, mem, name, max(1, math.ceil(ongoing / per_replica)), now, up_s, down_s)

    return _by_replicas(wants)


def skyserve(target_share: float = 0.7, window_s: float = 60.0, up_s: float = 300.0, down_s: float = 1200.0) -> Any:
    """SkyServe: requests per second in the last minute over what one replica does, up after 5 min, down after 20.

    On spot with on-demand as a fallback while spot is not to be had. What a replica does per second is set beforehand
    by the operator; here from a request of 1,000 tokens in and 200 out.
    """

    def wants(t: float, obs: Obs, mem: dict[str, Any], name: str) -> int:
        seen, spec = obs["engines"][name], obs["cfg"]["engines"][name]
        per_s = target_share * spec["slots"]["own"] / (spec["fixed"] + 1000 / spec["prefill"] + 200 * spec["tpot"])
        recent: list[tuple[float, float]] = mem.setdefault(f"recent {name}", [])
        recent.append((t, seen["arrivals"]))
        while recent[0][0] <= t - window_s:
            recent.pop(0)
        rate = sum(count for _, count in recent) / window_s
        now = sum(seen["ready"].values()) + sum(seen["starting"].values())
        return _delayed(t, mem, name, max(1, math.ceil(rate / per_s)), now, up_s, down_s)

    return _by_replicas(wants)


def _by_replicas(wants: Wants) -> Callable[[float, Obs, dict[str, Any]], Counts]:
    def decide(t: float, obs: Obs, mem: dict[str, Any]) -> Counts:
        return _replicas(obs, {name: wants(t, obs, mem, name) for name in obs["engines"]})

    return decide


def _delayed(t: float, mem: dict[str, Any], name: str, want: int, now: int, up_s: float, down_s: float) -> int:
    """`want` once it has been above (or below) `now` for `up_s` (or `down_s`); the first replica comes at once."""
    way = (want > now) - (want < now)
    since, before = mem.get(name, (t, 0))
    if way != before:
        since = t
    mem[name] = (since, way)
    if now and ((way > 0 and t - since < up_s) or (way < 0 and t - since < down_s)):
        return now
    mem[name] = (t, 0)
    return want


def _replicas(obs: Obs, wanted: Mapping[str, int]) -> Counts:
    """Replicas of one size each: first what is there, the cheapest first, then what is to be had."""
    own, spot = int(obs["own_free"]), int(obs["spot_cap"])
    spot -= sum(seen["ready"]["spot"] + seen["starting"]["spot"] for seen in obs["engines"].values())
    counts: Counts = {}
    for name, seen in obs["engines"].items():
        have = {pool: seen["ready"][pool] + seen["starting"][pool] for pool in ("own", "spot", "od")}
        more = wanted[name] - sum(have.values())
        own_more = max(0, min(own, more))
        spot_more = max(0, min(spot, more - own_more))
        own, spot = own - own_more, spot - spot_more
        grown = {"own": own_more, "spot": spot_more, "od": max(0, more - own_more - spot_more)}
        counts[name] = _shrunk({pool: have[pool] + grown[pool] for pool in have}, -more)
    return counts


def _shrunk(counts: dict[str, int], less: int) -> dict[str, int]:
    for pool in ("od", "spot", "own"):
        gone = max(0, min(less, counts[pool]))
        counts[pool] -= gone
        less -= gone
    return counts


def _placed(obs: Obs, slots: Mapping[str, int], *, spot: bool) -> Counts:
    """Instances for so many slots: own GPUs in turn to the engine with the most slots still to be had."""
    specs = obs["cfg"]["engines"]
    left, counts = dict(slots), {name: {"own": 0, "spot": 0, "od": 0} for name in slots}
    for _ in range(int(obs["cfg"]["own_gpus"])):
        name = max(left, key=lambda engine: left[engine] / specs[engine]["slots"]["cloud"], default=None)
        if name is not None and left[name] > 0:
            counts[name]["own"] += 1
            left[name] -= specs[name]["slots"]["own"]
    for name, missing in left.items():
        counts[name]["spot" if spot else "od"] = max(0, math.ceil(missing / specs[name]["slots"]["cloud"]))
    return counts
