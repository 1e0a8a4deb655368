"""What the fleet policy is told, read with patience: keys that may be left out, mappings or objects, bad numbers.

A configuration that cannot be used raises `ValueError` with a line that names the key. A measurement that makes no
sense (not a number, negative) counts as nothing measured, because a policy that stops is worse than one that guesses.
"""

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any

POOLS = ("own", "spot", "od")
DEFAULT_TICK_S = 10.0
DEFAULT_COLD_S = {"own": 40.0, "cloud": 120.0}
DEFAULT_WAIT_S = 5.0
UNBOUNDED = 10**6
MOST = 1e6
"""No count or wait is larger; what says so is broken."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One engine: slots per instance, seconds and dollars per second."""

    slots_own: int
    slots_cloud: int
    guess_s: float
    cold_own: float
    cold_cloud: float
    wait: float
    od: float
    spot: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One engine now. `ready` and `starting` are counts of own, spot and on-demand instances."""

    queued: float
    running: float
    arrivals: float
    oldest_wait: float
    ready: tuple[int, int, int]
    starting: tuple[int, int, int]

    def have(self, pool: int) -> int:
        return self.ready[pool] + self.starting[pool]


@dataclass(frozen=True, slots=True)
class World:
    """All engines, and what is shared between them. `idle` is what a loaded own GPU costs, in dollars per second."""

    tick_s: float
    own_gpus: int
    own_free: int
    spot_cap: int
    idle: float
    min_bill_s: float
    specs: dict[str, Spec]
    seen: dict[str, Seen]


def read(obs: Any) -> World:
    """`obs` as the door takes it. Raises `ValueError` if something is missing that nothing can stand in for."""
    cfg = _get(obs, "cfg")
    if cfg is None:
        raise ValueError("obs.cfg is missing: it holds own_gpus, prices and one entry per engine")
    engines = _items(_get(obs, "engines"))
    specs = {name: _spec(cfg, name) for name in engines}
    seen = {name: _seen(engine) for name, engine in engines.items()}
    own_gpus = int(_number(cfg, "own_gpus", 0))
    held = sum(one.have(0) for one in seen.values())
    watts = _number(cfg, "w_idle", 0.0)
    return World(
        tick_s=_number(cfg, "tick_s", DEFAULT_TICK_S) or DEFAULT_TICK_S,
        own_gpus=own_gpus,
        own_free=min(own_gpus, int(_number(obs, "own_free", max(0, own_gpus - held)))),
        spot_cap=int(_number(obs, "spot_cap", UNBOUNDED)),
        idle=watts / 1000 * _number(cfg, "kwh", 0.0) / 3600,
        min_bill_s=_number(cfg, "min_bill_s", 0.0),
        specs=specs,
        seen=seen,
    )


def _spec(cfg: Any, name: str) -> Spec:
    own = _get(_get(cfg, "engines"), name) or _get(cfg, name)
    if own is None:
        raise ValueError(f"obs.cfg.engines.{name} is missing: it holds slots, fixed, prefill, tpot, cold and wait")
    slots = _get(own, "slots")
    if slots is None:
        raise ValueError(f"obs.cfg.engines.{name}.slots is missing: it holds own and cloud")
    cold = _get(own, "cold")
    prefill = _number(own, "prefill", 0.0)
    return Spec(
        slots_own=max(1, int(_placed(slots, "own", 1))),
        slots_cloud=max(1, int(_placed(slots, "cloud", _placed(slots, "own", 1)))),
        guess_s=_number(own, "fixed", 0.0)
        + (TYPICAL_PROMPT / prefill if prefill else 0.0)
        + TYPICAL_OUTPUT * _number(own, "tpot", 0.0),
        cold_own=_placed(cold, "own", DEFAULT_COLD_S["own"]),
        cold_cloud=_placed(cold, "cloud", DEFAULT_COLD_S["cloud"]),
        wait=_number(own, "wait", DEFAULT_WAIT_S),
        od=_price(cfg, own, name, "od_per_h"),
        spot=_price(cfg, own, name, "spot_per_h"),
    )


TYPICAL_PROMPT = 1000
TYPICAL_OUTPUT = 200
"""Tokens of a request, as long as none has been seen; `fixed` and the rates turn them into seconds."""


def _placed(value: Any, place: str, default: float) -> float:
    """`own` or `cloud` of a pair; a bare number is meant for both."""
    if isinstance(value, int | float):
        return float(value)
    return _number(value, place, default)


def _price(cfg: Any, own: Any, name: str, key: str) -> float:
    """Dollars per second: the engine's own price, or the machines' (which may be one per engine)."""
    value = _get(own, key)
    if value is None:
        value = _get(cfg, key)
    if value is not None and not isinstance(value, int | float):
        value = _get(value, name)
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"obs.cfg.{key} is missing or no price: it is in dollars per hour")
    return value / 3600


def _seen(engine: Any) -> Seen:
    running = _get(engine, "running")
    if isinstance(running, Mapping):
        running = sum(value for value in running.values() if isinstance(value, int | float))
    return Seen(
        queued=_count(_get(engine, "queued")),
        running=_count(running),
        arrivals=_count(_get(engine, "arrivals")),
        oldest_wait=_count(_get(engine, "oldest_wait")),
        ready=_counts(_get(engine, "ready")),
        starting=_counts(_get(engine, "starting")),
    )


def _counts(pools: Any) -> tuple[int, int, int]:
    own, spot, od = (int(_count(_get(pools, pool))) for pool in POOLS)
    return own, spot, od


def _count(value: Any) -> float:
    if isinstance(value, Sized) and not isinstance(value, str):
        return float(len(value))
    if not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return min(MOST, max(0.0, float(value)))


def _number(mapping: Any, key: str, default: float) -> float:
    value = _get(mapping, key)
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return default
    return float(value)


def _items(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(value if isinstance(value, Mapping) else vars(value))


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
