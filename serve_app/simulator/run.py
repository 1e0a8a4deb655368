"""The simulation: requests queue per engine, instances in three pools serve them, a policy sets how many there are.

How the world behaves, for a policy:

- A request waits first come, first served, and takes a slot of the cheapest pool that has one (own, spot, on-demand),
  in the fullest instance. It holds the slot for `fixed + prompt / prefill + output * tpot` seconds.
- An instance that is started takes `cold` seconds. On own GPUs it starts only while one is free. It draws `w_idle`
  while it is loaded and `w_busy` while anything runs on it; a GPU without an instance draws nothing.
- A cloud instance is paid from its start to its end, `min_bill_s` at least.
- A lowered count drains: starting instances go first, then the emptiest. A draining instance takes nothing new and
  ends with its last request.
- When fewer spot instances are to be had than there are, the newest are lost at once. Their requests go back to the
  head of the queue, and their wait counts from their arrival to the start that held.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.simulator.setup import Cfg
from serve_app.simulator.trace import Trace

Decision = Mapping[str, Mapping[str, int]]
Policy = Callable[[float, dict[str, Any], dict[str, Any]], Decision]
SpotCap = tuple[tuple[float, int], ...]
"""Steps `(from second, instances to be had)`, in order of time."""

POOLS = ("own", "spot", "od")
OWN, SPOT, OD = range(3)
STARTING, READY, DRAINING, GONE = range(4)
PATIENCE_S = 3600.0
"""How long after the last arrival what still waits is waited for."""

SAMPLE_S = 60.0
HOUR_S = 3600.0
DONE, COLD, CAP = range(3)


@dataclass(eq=False, slots=True)
class Instance:
    """One replica of one engine on one machine."""

    pool: int
    slots: int
    free: int
    since: float
    state: int = STARTING
    busy_s: float = 0.0
    busy_since: float = 0.0
    running: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Engine:
    """An engine and what is known of it while it runs."""

    name: str
    spec: Mapping[str, Any]
    queue: deque[int] = field(default_factory=deque)
    instances: list[Instance] = field(default_factory=list)
    arrivals: int = 0
    running: int = 0
    served: int = 0


@dataclass(slots=True)
class Sample:
    """One moment of the timeline, of one engine."""

    t: float
    queued: int
    running: int
    ready: tuple[int, int, int]
    starting: tuple[int, int, int]
    arrivals: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `waits[engine]` are the seconds waited, in the order of arrival; infinite if never served."""

    cfg: Cfg
    seconds: float
    cost: dict[str, dict[str, float]]
    hours: dict[str, dict[str, float]]
    waits: dict[str, list[float]]
    started: dict[str, dict[str, int]]
    lost: int
    restarts: int
    served: int
    samples: dict[str, list[Sample]]

    @property
    def total(self) -> float:
        return sum(sum(pools.values()) for pools in self.cost.values())

    def attainment(self, engine: str) -> float:
        """The share of its requests that waited no longer than the engine's `wait`; 1 without requests."""
        waits, limit = self.waits[engine], self.cfg["engines"][engine]["wait"]
        return sum(wait <= limit for wait in waits) / len(waits) if waits else 1.0


def simulate(trace: Trace, cfg: Cfg, policy: Policy, spot: SpotCap = ()) -> Outcome:
    """Replay `trace` under `policy`. Without `spot` any number of spot instances is to be had."""
    return _World(trace, cfg, policy, spot).run()


class _World:
    def __init__(self, trace: Trace, cfg: Cfg, policy: Policy, spot: SpotCap) -> None:
        self.trace, self.cfg, self.policy = trace, cfg, policy
        self.engines = [Engine(name, cfg["engines"][name]) for name in trace.engines]
        self.by_name = {engine.name: engine for engine in self.engines}
        self.service = _service_times(trace, self.engines)
        self.started = [-1.0] * len(trace)
        self.events: list[tuple[float, int, int, Any, Any]] = []
        self.serial = 0
        self.now = 0.0
        self.own_used = 0
        self.spot_cap = spot[0][1] if spot else 10**6
        self.mem: dict[str, Any] = {}
        self.cost = {engine.name: dict.fromkeys(POOLS, 0.0) for engine in self.engines}
        self.hours = {engine.name: dict.fromkeys(POOLS, 0.0) for engine in self.engines}
        self.starts = {engine.name: dict.fromkeys(POOLS, 0) for engine in self.engines}
        self.lost = self.restarts = 0
        self.samples: dict[str, list[Sample]] = {engine.name: [] for engine in self.engines}
        self.sampled = -SAMPLE_S
        for t, cap in spot[1:]:
            self._push(t, CAP, cap, None)

    def run(self) -> Outcome:
        arrivals, owners = self.trace.t, self.trace.engine
        total, position, tick_s = len(arrivals), 0, float(self.cfg["tick_s"])
        tick, last = 0.0, self.trace.seconds
        events, handlers = self.events, (self._done, self._warm, self._cap)
        while True:
            arrival = arrivals[position] if position < total else float("inf")
            due = events[0][0] if events else float("inf")
            if arrival < due and arrival < tick:
                self.now = arrival
                engine = self.engines[owners[position]]
                engine.arrivals += 1
                engine.queue.append(position)
                if len(engine.queue) == 1:
                    self._dispatch(engine)
                position += 1
            elif due <= tick:
                self.now, _, kind, first, second = heapq.heappop(events)
                handlers[kind](first, second)
            else:
                self.now = tick
                if position == total and (self._idle() or tick > last + PATIENCE_S):
                    break
                self._tick()
                tick += tick_s
        return self._outcome()

    def _idle(self) -> bool:
        return not any(engine.queue or engine.running for engine in self.engines)

    def _push(self, t: float, kind: int, first: Any, second: Any) -> None:
        self.serial += 1
        heapq.heappush(self.events, (t, self.serial, kind, first, second))

    def _dispatch(self, engine: Engine) -> None:
        queue = engine.queue
        for instance in engine.instances:
            while instance.free and queue and instance.state == READY:
                self._start_request(engine, instance, queue.popleft())
            if not queue:
                return

    def _start_request(self, engine: Engine, instance: Instance, request: int) -> None:
        if not instance.running:
            instance.busy_since = self.now
        instance.running.add(request)
        instance.free -= 1
        engine.running += 1
        self.started[request] = self.now
        self._push(self.now + self.service[request], DONE, instance, request)

    def _done(self, instance: Instance, request: int) -> None:
        if request not in instance.running:  # it was on a machine that is lost
            return
        instance.running.remove(request)
        instance.free += 1
        engine = self.engines[self.trace.engine[request]]
        engine.running -= 1
        engine.served += 1
        if not instance.running:
            instance.busy_s += self.now - instance.busy_since
            if instance.state == DRAINING:
                self._end(engine, instance)
        if engine.queue:
            self._dispatch(engine)

    def _warm(self, instance: Instance, engine: Engine) -> None:
        if instance.state == STARTING:
            instance.state = READY
            self._dispatch(engine)

    def _cap(self, cap: int, _: Any) -> None:
        self.spot_cap = cap
        held = [(i.since, n, i, e) for e in self.engines for n, i in enumerate(e.instances) if i.pool == SPOT]
        for _, _, instance, engine in sorted(held, key=lambda row: row[:2])[cap:]:
            self._lose(engine, instance)

    def _lose(self, engine: Engine, instance: Instance) -> None:
        requests = sorted(instance.running, reverse=True)
        if requests:
            instance.busy_s += self.now - instance.busy_since
        instance.running.clear()
        engine.running -= len(requests)
        engine.queue.extendleft(requests)
        self.lost += 1
        self.restarts += len(requests)
        self._end(engine, instance)
        self._dispatch(engine)

    def _start(self, engine: Engine, pool: int) -> None:
        place = "own" if pool == OWN else "cloud"
        slots = int(engine.spec["slots"][place])
        instance = Instance(pool, slots, slots, self.now)
        engine.instances.append(instance)
        engine.instances.sort(key=lambda i: (i.pool, i.since))
        self.starts[engine.name][POOLS[pool]] += 1
        self.own_used += pool == OWN
        self._push(self.now + float(engine.spec["cold"][place]), COLD, instance, engine)

    def _end(self, engine: Engine, instance: Instance) -> None:
        instance.state = GONE
        engine.instances.remove(instance)
        self.own_used -= instance.pool == OWN
        pool, lived = POOLS[instance.pool], self.now - instance.since
        self.hours[engine.name][pool] += lived / HOUR_S
        self.cost[engine.name][pool] += self._price(engine, instance, lived)

    def _price(self, engine: Engine, instance: Instance, lived: float) -> float:
        cfg = self.cfg
        if instance.pool == OWN:
            watt_s = instance.busy_s * cfg["w_busy"] + (lived - instance.busy_s) * cfg["w_idle"]
            return float(watt_s / HOUR_S / 1000 * cfg["kwh"])
        key = "spot_per_h" if instance.pool == SPOT else "od_per_h"
        return float(max(lived, cfg["min_bill_s"]) / HOUR_S * engine.spec.get(key, cfg[key]))

    def _drain(self, engine: Engine, instance: Instance) -> None:
        if instance.running:
            instance.state = DRAINING
        else:
            self._end(engine, instance)

    def _tick(self) -> None:
        observed = self._observe()
        if self.now - self.sampled >= SAMPLE_S:
            self._sample(observed)
        decided = self.policy(self.now, observed, self.mem)
        for engine in self.engines:
            engine.arrivals = 0
        wanted = [(engine, decided.get(engine.name, {})) for engine in self.engines]
        for engine, counts in wanted:
            for pool, name in enumerate(POOLS):
                self._lower(engine, pool, int(counts.get(name, 0)))
        for pool, name in enumerate(POOLS):
            for engine, counts in wanted:
                self._raise(engine, pool, int(counts.get(name, 0)))

    def _lower(self, engine: Engine, pool: int, count: int) -> None:
        alive = [i for i in engine.instances if i.pool == pool and i.state in (STARTING, READY)]
        alive.sort(key=lambda i: (i.state == READY, len(i.running), -i.since))
        for instance in alive[: max(0, len(alive) - count)]:
            self._drain(engine, instance)

    def _raise(self, engine: Engine, pool: int, count: int) -> None:
        alive = sum(i.pool == pool and i.state in (STARTING, READY) for i in engine.instances)
        for _ in range(count - alive):
            if not self._room(pool):
                return
            self._start(engine, pool)

    def _room(self, pool: int) -> bool:
        if pool == OWN:
            return self.own_used < int(self.cfg["own_gpus"])
        return pool == OD or sum(i.pool == SPOT for e in self.engines for i in e.instances) < self.spot_cap

    def _observe(self) -> dict[str, Any]:
        return {
            "cfg": self.cfg,
            "spot_cap": self.spot_cap,
            "own_free": int(self.cfg["own_gpus"]) - self.own_used,
            "engines": {engine.name: self._observed(engine) for engine in self.engines},
        }

    def _observed(self, engine: Engine) -> dict[str, Any]:
        ready, starting = dict.fromkeys(POOLS, 0), dict.fromkeys(POOLS, 0)
        for instance in engine.instances:
            if instance.state == READY:
                ready[POOLS[instance.pool]] += 1
            elif instance.state == STARTING:
                starting[POOLS[instance.pool]] += 1
        return {
            "queued": len(engine.queue),
            "running": engine.running,
            "arrivals": engine.arrivals,
            "oldest_wait": self.now - self.trace.t[engine.queue[0]] if engine.queue else 0.0,
            "ready": ready,
            "starting": starting,
        }

    def _sample(self, observed: dict[str, Any]) -> None:
        self.sampled = self.now
        for name, seen in observed["engines"].items():
            ready, starting = ((s["own"], s["spot"], s["od"]) for s in (seen["ready"], seen["starting"]))
            row = Sample(self.now, seen["queued"], seen["running"], ready, starting, seen["arrivals"])
            self.samples[name].append(row)

    def _outcome(self) -> Outcome:
        for engine in self.engines:
            for request in {r for i in engine.instances for r in i.running} | set(engine.queue):
                self.started[request] = float("inf")
            for instance in list(engine.instances):
                self._end(engine, instance)
        waits: dict[str, list[float]] = {engine.name: [] for engine in self.engines}
        names = self.trace.engines
        for t, owner, started in zip(self.trace.t, self.trace.engine, self.started, strict=True):
            waits[names[owner]].append(started - t)
        served = sum(engine.served for engine in self.engines)
        return Outcome(
            self.cfg,
            self.now,
            self.cost,
            self.hours,
            waits,
            self.starts,
            self.lost,
            self.restarts,
            served,
            self.samples,
        )


def _service_times(trace: Trace, engines: list[Engine]) -> list[float]:
    rates = [(float(e.spec["fixed"]), 1 / float(e.spec["prefill"]), float(e.spec["tpot"])) for e in engines]
    return [
        rates[owner][0] + prompt * rates[owner][1] + output * rates[owner][2]
        for owner, prompt, output in zip(trace.engine, trace.prompt, trace.output, strict=True)
    ]
