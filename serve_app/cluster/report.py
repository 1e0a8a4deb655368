"""The cluster's state in words, for `megacity status --head`: what is short, sold out, late or silent."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from serve_app.cluster import state
from serve_app.errors import ConfigError

Parts = Mapping[str, Mapping[str, Any]]


def cluster(head: str) -> dict[str, Any]:
    """Every part's state, and `alerts`, as the head knows them. Raises `ConfigError` if it does not answer."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        parts = state.read(GcsClient(address=head))
    except Exception as error:  # each layer below has exceptions of its own, and all mean the same here
        raise ConfigError(
            f"no head answers at {head} ({type(error).__name__}); is it running, and do RAY_AUTH_MODE and "
            "RAY_AUTH_TOKEN_PATH name its token?"
        ) from error
    return {**parts, "alerts": list(alerts(parts, time.time()))}


def alerts(parts: Parts, now: float) -> Iterator[str]:
    """What somebody should look at, in one line each."""
    fleet = parts.get("fleet")
    if fleet is None:
        yield "no fleet policy has reported: the head is new, or the profile has none"
    elif fleet["stale"]:
        yield f"the fleet policy has been silent for {fleet['age_s']:.0f} s: is Serve's controller running?"
    for name, engine in (fleet or {}).get("engines", {}).items():
        if engine["target"] > engine["running"]:
            yield f"{name}: {engine['running']} of {engine['target']} replicas run ({engine['why']})"
    for name, kind in parts.get("stock", {}).get("types", {}).items():
        if kind["state"] != "available" and (kind["again_at"] or 0) > now:
            yield f"{name}: {kind['state']}; asked again in {kind['again_at'] - now:.0f} s"
    for name, node in parts.items():
        if name.startswith("node/") and node["state"] == "draining" and node["deadline"] < now:
            yield f"{name}: {now - node['deadline']:.0f} s past its deadline and not drained ({node['reason']})"


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    for name, engine in found.get("fleet", {}).get("engines", {}).items():
        pools = ", ".join(f"{count} {pool}" for pool, count in engine["pools"].items()) or "none"
        yield f"  {name:<14} {engine['running']}/{engine['target']} replicas ({pools}): {engine['why']}"
    for name, node in found.items():
        if name.startswith("node/"):
            yield f"  {name:<14} {node['state']}: {node['reason']}"
    for alert in found["alerts"]:
        yield f"  ! {alert}"
