"""From Serve's contexts to the fleet policy and back: what is seen, what is decided, and what holds in between.

The policy is asked every `tick_s`. The schedule and the rule for engines that sleep hold at every moment. What is not
known lowers nothing: replicas that have not reported yet, a controller that has just started, a policy that fails.
"""

import importlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.cluster import state
from serve_app.policies import fleet
from serve_app.policies.ondemand import OnDemand, Waking, waking
from serve_app.policies.schedule import Bounds, Schedule, clamped, parse

logger = logging.getLogger("ray.serve")
POOLS = ("own", "spot", "od")
SETTLE_TICKS = 2
"""Ticks after the start for which nothing is lowered: nobody remembers what was there before."""

Clock = Callable[[], float]
Counts = dict[str, int]


@dataclass(slots=True)
class Engine:
    """What is known of one engine between calls."""

    schedule: Schedule | None
    rule: OnDemand
    counts: Counts = field(default_factory=dict)
    came: dict[Any, float] = field(default_factory=dict)
    arrivals: int = 0
    awake: dict[str, Any] = field(default_factory=dict)
    short_since: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One engine at one moment. `reported`: replicas whose figures are in; `waiting` requests are at the doors."""

    running: int
    target: int
    least: int
    reported: int
    busy: float
    queued: float
    waiting: float
    oldest_wait_s: float
    ready: Counts
    fresh: int
    """Requests that came since the last look."""

    @property
    def load(self) -> float:
        return self.busy + self.queued + self.waiting


class Steering:
    """Targets for all engines of an application. Belongs to one controller."""

    def __init__(self, publish: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._settings: dict[str, Any] = {}
        self._mem: dict[str, Any] = {}
        self._started: float | None = None
        self._ticked = -math.inf
        self._board = Board()
        self._publish = publish or self._board.show

    def targets(self, contexts: Mapping[Any, Any]) -> dict[Any, int]:
        """How many replicas each deployment should have now."""
        mine = {key: ctx for key, ctx in contexts.items() if _about(ctx)}
        result = {key: _by_default(ctx) for key, ctx in contexts.items() if key not in mine}
        if not mine:
            return result
        self._learn(mine.values())
        now = self._now()
        self._started = now if self._started is None else self._started
        views = {ctx.deployment_name: self._view(ctx) for ctx in mine.values()}
        if not 0 <= now - self._ticked < self._settings["tick_s"]:
            self._tick(now, mine.values(), views)
        for key, ctx in mine.items():
            result[key] = self._target(now, ctx.deployment_name, views[ctx.deployment_name])
        return result

    def _learn(self, contexts: Iterable[Any]) -> None:
        """Read what travels with the deployments, again only where it has changed."""
        for ctx in contexts:
            about = _about(ctx)
            if self._settings is not about["fleet"]:
                self._settings = about["fleet"]
            if ctx.deployment_name not in self._engines:
                own = about["engine"]
                schedule = parse(own["schedule"]) if own["schedule"] else None
                self._engines[ctx.deployment_name] = Engine(schedule, OnDemand(**own["on_demand"]))

    def _now(self) -> float:
        clock = self._settings.get("clock")
        return float(_function(clock)()) if clock else time.time()

    def _view(self, ctx: Any) -> View:
        known = self._engines[ctx.deployment_name]
        latest = _latest(ctx.raw_metrics or {})
        came = latest.get("came", {})
        fresh = int(sum(max(0.0, count - known.came.get(key, 0.0)) for key, count in came.items()))
        if math.isinf(self._ticked):  # a controller that has just started has not seen them come
            fresh = 0
        known.came = came
        known.arrivals += fresh
        pools = [int(pool) for pool in latest.get("pool", {}).values()]
        ready = {name: pools.count(index) for index, name in enumerate(POOLS)}
        ready["own"] += max(0, ctx.current_num_replicas - len(pools))
        return View(
            running=ctx.current_num_replicas,
            target=ctx.target_num_replicas,
            least=ctx.capacity_adjusted_min_replicas,
            reported=len(pools),
            busy=sum(latest.get("running", {}).values()),
            queued=sum(latest.get("queued", {}).values()),
            waiting=0.0 if ctx.current_num_replicas else float(ctx.total_num_requests),
            oldest_wait_s=max(latest.get("oldest_wait_s", {}).values(), default=0.0),
            ready=ready,
            fresh=fresh,
        )

    def _tick(self, now: float, contexts: Iterable[Any], views: Mapping[str, View]) -> None:
        obs: dict[str, Any] = {
            "cfg": self._cfg(contexts),
            "engines": {name: self._observed(name, view) for name, view in views.items()},
        }
        cap = self._board.spot_cap(sum(view.ready["spot"] for view in views.values()))
        if cap is not None:
            obs["spot_cap"] = cap
        try:
            decided = fleet.decide(now, obs, self._mem)
        except Exception:  # an error would stop Serve's own loop; what was decided last stays in force
            logger.exception("the fleet policy failed; the last decision stays")
            decided = {}
        for name, view in views.items():
            known = self._engines[name]
            known.counts = decided.get(name, known.counts or {"own": view.target})
            known.arrivals = 0
        self._ticked = now
        self._publish(self._shown(now, views))

    def _cfg(self, contexts: Iterable[Any]) -> dict[str, Any]:
        machines = {key: self._settings[key] for key in MACHINES}
        engines = {ctx.deployment_name: _spec(_about(ctx)) for ctx in contexts}
        return {**machines, "own_gpus": self._settings["own_replicas"], "engines": engines}

    def _observed(self, name: str, view: View) -> dict[str, Any]:
        """Who waits for a sleeper is left out: it wakes anyway, and a cold start is no sign of too few."""
        known = self._engines[name]
        return {
            "queued": view.queued,
            "running": view.busy,
            "arrivals": known.arrivals,
            "oldest_wait": view.oldest_wait_s,
            "ready": view.ready,
            "starting": _starting(known.counts, view),
        }

    def _target(self, now: float, name: str, view: View) -> int:
        """The decision within the schedule and the rule for sleepers; nothing is lowered on guesses."""
        known = self._engines[name]
        bounds = known.schedule.bounds(now) if known.schedule else Bounds()
        counts = clamped(known.counts, bounds, 0)
        wanted, why = sum(counts.values()), _words(known.counts)
        if known.schedule:
            why += f"; {bounds.window} allows {bounds.least} to {bounds.most}"
        if view.least == 0 and bounds.least == 0:
            wake = self._waking(now, known, view)
            if wake.awake:
                wanted, why = max(1, wanted), f"{why}; awake: {wake.reason}"
            elif view.load:
                why += f"; asleep after what runs: {wake.reason}"
            else:
                wanted, why = 0, f"asleep: {wake.reason}"
        if wanted < view.target and (held := self._held(now, view)):
            wanted, why = min(view.target, max(bounds.most, wanted)), f"{why}; not lowered: {held}"
        known.why = why
        return wanted

    def _waking(self, now: float, known: Engine, view: View) -> Waking:
        called = view.running == 0 and view.waiting > 0
        return waking(known.rule, now, view.fresh, called, view.load > 0, known.awake)

    def _held(self, now: float, view: View) -> str:
        if now - (self._started or now) < SETTLE_TICKS * self._settings["tick_s"]:
            return "the controller has just started"
        if view.reported < view.running:
            return f"{view.running - view.reported} replicas have not reported yet"
        return ""

    def _shown(self, now: float, views: Mapping[str, View]) -> dict[str, Any]:
        return {"engines": {name: self._line(now, name, view) for name, view in views.items()}}

    def _line(self, now: float, name: str, view: View) -> dict[str, Any]:
        known = self._engines[name]
        short = view.target > view.running
        known.short_since = (known.short_since or now) if short else None
        waited = (
            f"; {view.target - view.running} short for {now - known.short_since:.0f} s" if known.short_since else ""
        )
        pools = {name: count for name, count in view.ready.items() if count}
        figures = {"running": view.running, "target": view.target, "pools": pools}
        return {**figures, "busy": view.busy, "queued": view.queued + view.waiting, "why": known.why + waited}


class Board:
    """What `megacity status` shows, and what the provider says of spot: beside Serve's loop, which must not wait."""

    def __init__(self) -> None:
        self._sold_out_until = 0.0
        self._busy = threading.Lock()

    def spot_cap(self, held: int) -> int | None:
        """As many as there are while the cloud is out of them; None: as many as are wanted."""
        return held if time.time() < self._sold_out_until else None

    def show(self, value: dict[str, Any]) -> None:
        if self._busy.acquire(blocking=False):
            threading.Thread(target=self._exchange, args=(value,), daemon=True).start()

    def _exchange(self, value: dict[str, Any]) -> None:
        from ray.experimental.internal_kv import internal_kv_get_gcs_client

        try:
            gcs = internal_kv_get_gcs_client()
            state.publish(gcs, "fleet", value)
            types = state.read(gcs).get("stock", {}).get("types", {})
            self._sold_out_until = max((one.get("again_at") or 0.0 for one in types.values()), default=0.0)
        except Exception as error:  # noqa: BLE001 - the head may be away; the next tick tries again
            logger.warning("the fleet's state could not be shown: %s", type(error).__name__)
        finally:
            self._busy.release()


MACHINES = ("tick_s", "od_per_h", "spot_per_h", "kwh", "w_idle", "w_busy", "min_bill_s")


def _about(ctx: Any) -> dict[str, Any]:
    about: dict[str, Any] = ctx.config.policy.policy_kwargs if ctx.config else {}
    return about if about.get("fleet") else {}


def _by_default(ctx: Any) -> int:
    """For an engine that scales by itself: as many as its requests need at Serve's own target."""
    if not ctx.current_num_replicas:
        return int(ctx.target_num_replicas)
    return math.ceil(float(ctx.total_num_requests) / float(ctx.config.get_target_ongoing_requests()))


def _spec(about: Mapping[str, Any]) -> dict[str, Any]:
    own = about["engine"]
    spec = {
        "slots": {"own": about["slots"], "cloud": own["cloud_slots"] or about["slots"]},
        "fixed": own["fixed_s"],
        "prefill": own["prefill_per_s"],
        "tpot": own["token_s"],
        "cold": own["cold_s"],
        "wait": own["wait_s"],
    }
    return spec | {key: own[key] for key in ("od_per_h", "spot_per_h") if own[key] is not None}


def _latest(raw: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[Any, float]]:
    """The newest figure of every replica, by name."""
    return {name: {key: series[-1].value for key, series in by.items() if len(series)} for name, by in raw.items()}


def _starting(counts: Counts, view: View) -> Counts:
    """Where replicas that Serve has asked for will be, as far as that was decided."""
    left = max(0, view.target - view.running)
    starting = dict.fromkeys(POOLS, 0)
    for pool in POOLS:
        starting[pool] = min(left, max(0, counts.get(pool, 0) - view.ready[pool]))
        left -= starting[pool]
    starting["own"] += left
    return starting


def _words(counts: Counts) -> str:
    return " + ".join(f"{count} {pool}" for pool, count in counts.items() if count) or "none needed"


def _function(name: str) -> Callable[[], float]:
    module, _, attribute = name.partition(":")
    found: Callable[[], float] = getattr(importlib.import_module(module), attribute)
    return found
