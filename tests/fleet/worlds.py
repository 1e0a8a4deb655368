"""Observations to ask the policy about."""

from typing import Any

from serve_app.simulator.setup import GENERATION, LLM, MACHINES

POOLS = ("own", "spot", "od")


def config(engines: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return MACHINES | {"engines": engines or {"chat": LLM, "gen": GENERATION}} | changes


def engine(**seen: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(POOLS, 0)
    quiet = {"queued": 0, "running": 0, "arrivals": 0, "oldest_wait": 0.0, "ready": nothing, "starting": nothing}
    return quiet | seen


def observation(cfg: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    cfg = cfg or config()
    engines = {name: engine() for name in cfg["engines"]}
    return {"cfg": cfg, "spot_cap": 5, "own_free": cfg["own_gpus"], "engines": engines} | changes
