"""What one engine's load has been, what it may be when a new instance is warm, and how well it was served.

Load is in slots: the number of requests that would be running if nobody had to wait. Requests of 1 s and of 30 s are
not the same load, and a policy that counts requests buys for the wrong one.
"""

import math
from dataclasses import dataclass
from typing import Any

from serve_app.policies.fleet_obs import Seen, Spec

FORGET_SERVICE_S = 900.0
FORGET_WHILE_LATE_S = 90.0
"""While requests are late, what they take now counts: it may be why."""

GUESS_COUNTS = 10.0
"""The guess at a request's seconds weighs as much as so many finished requests."""

CAUTION = 2.0
"""Before anything has run, requests may well be longer than guessed: an order can be cancelled, time can't."""

MEMORIES_S = (45.0, 180.0, 900.0)
"""Forecasts with a short, a middle and a long memory; the one that has erred least lately is believed."""

ERRORS_S = 1800.0
RING = 240
"""So many errors of each forecast are kept: what happened within 40 minutes may happen again."""

SETTLED_TICKS = 15
"""A forecast from less is no forecast, and how it erred says nothing."""

FEW_TICKS = 20
"""Guesses count for less, the more is known: half after so many ticks."""

BURST, BURST_TICKS = 2.5, 2.0
"""An engine of which little is known may burst to so many own instances, as if it had for so many ticks."""

FORGET_PEAK_S = 43200.0
AFTER_GAP_S, SHORTEST_S = 600.0, 0.1
RECENT_S = 1200.0
PLAN_AHEAD_S, AT_LEAST_AHEAD_S = 7200.0, 900.0
"""The misses of the past are made good within as long as has passed, between these two."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What to expect when what is ordered now is warm.

    `series`: loads, one after another, a tick each. `guesses`: loads with the weight of so many ticks. `level`: the
    middle of it. `backlog`: slot-seconds that will be waiting. `miss_usd`: what missing one request is worth.
    """

    series: tuple[float, ...]
    guesses: tuple[tuple[float, float], ...]
    level: float
    backlog: float
    service_s: float
    miss_usd: float
    known: bool


def observe(mine: dict[str, Any], t: float, seen: Seen, spec: Spec, tick_s: float) -> None:
    """Bring an engine's memory up to `t`."""
    dt = t - mine.get("t", t - tick_s)
    if "t" not in mine or abs(dt) > max(AFTER_GAP_S, 5 * tick_s):
        _begin(mine, spec)
        dt = tick_s
    if dt < SHORTEST_S:
        return
    mine["t"] = t
    mine["ticks"] += 1
    mine["age"] += dt
    mine["life"] += dt
    served = max(0.0, mine["queued"] + seen.arrivals - seen.queued)
    finished = max(0.0, mine["queued"] + mine["running"] + seen.arrivals - seen.queued - seen.running)
    _learn_service(mine, seen, spec, finished, dt)
    _learn_load(mine, seen, spec, dt)
    _judge(mine, seen, spec, served, dt)
    mine["queued"], mine["running"], mine["oldest"] = seen.queued, seen.running, seen.oldest_wait
    mine["total"] += seen.arrivals


def _begin(mine: dict[str, Any], spec: Spec) -> None:
    fresh = {
        "queued": 0.0,
        "running": 0.0,
        "oldest": 0.0,
        "total": mine.get("total", 0.0),
        "long": [0.0, 0.0],
        "short": [0.0, 0.0],
        "service": mine.get("service", spec.guess_s or 1.0),
        "load": 0.0,
        "flow": 0.0,
        "jam": 0.0,
        "levels": [0.0] * len(MEMORIES_S),
        "weight": [0.0] * len(MEMORIES_S),
        "past": [],
        "errors": [[] for _ in MEMORIES_S],
        "erred": [0.0] * len(MEMORIES_S),
        "served": mine.get("served", 0.0),
        "missed": mine.get("missed", 0.0),
        "recent": [0.0, 0.0],
        "waiting": 0.0,
        "ticks": 0,
        "age": 0.0,
        "life": mine.get("life", 0.0),
        "worth": mine.get("worth", FIRST_WORTH),
        "allowed": AIM,
        "peak": mine.get("peak", 0.0),
    }
    mine.update(fresh)


def _learn_service(mine: dict[str, Any], seen: Seen, spec: Spec, finished: float, dt: float) -> None:
    """Seconds per request by Little's law: time spent in slots over requests that left them."""
    busy = (mine["running"] + seen.running) / 2 * dt
    for name, memory in (("long", FORGET_SERVICE_S), ("short", FORGET_WHILE_LATE_S)):
        keep = math.exp(-dt / memory)
        mine[name] = [mine[name][0] * keep + busy, mine[name][1] * keep + finished]
    busy, finished = mine["long"]
    guess = (spec.guess_s or 1.0) * (1 if busy else CAUTION)
    mine["service"] = (guess * GUESS_COUNTS + busy) / (GUESS_COUNTS + finished)
    if seen.oldest_wait > spec.wait and mine["short"][1] > GUESS_COUNTS:
        mine["service"] = max(mine["service"], mine["short"][0] / mine["short"][1])


def _learn_load(mine: dict[str, Any], seen: Seen, spec: Spec, dt: float) -> None:
    service = mine["service"]
    arriving = seen.arrivals / dt * service
    new = -math.expm1(-dt / service)
    mine["flow"] = mine["flow"] * (1 - new) + new  # a mean from the first call on, not from nothing
    flowing = mine["load"] + new / mine["flow"] * (arriving - mine["load"])
    if seen.oldest_wait > service:
        mine["jam"] = 2 * service
    if mine["jam"] > 0:  # what runs is what there are slots for, and then what is caught up with
        mine["jam"] -= dt
        load = flowing
    else:
        share = service / (service + dt)
        load = share * (seen.running + seen.queued) + (1 - share) * flowing
    mine["load"] = load
    if mine["ticks"] > SETTLED_TICKS:
        mine["peak"] = max(load, mine["peak"] * math.exp(-dt / FORGET_PEAK_S))
    _learn_errors(mine, load, spec, dt)
    for n, memory in enumerate(MEMORIES_S):
        mine["weight"][n] = mine["weight"][n] * math.exp(-dt / memory) + dt
        mine["levels"][n] += dt / mine["weight"][n] * (load - mine["levels"][n])


def _learn_errors(mine: dict[str, Any], load: float, spec: Spec, dt: float) -> None:
    """Compare with what was forecast a cold start ago."""
    mine["past"].append(list(mine["levels"]))
    ahead = max(1, round((spec.cold_cloud + dt) / dt))
    if len(mine["past"]) <= ahead or mine["ticks"] - ahead < SETTLED_TICKS:
        return
    keep = math.exp(-dt / ERRORS_S)
    for n, forecast in enumerate(mine["past"][-1 - ahead]):
        error = load - forecast
        mine["errors"][n] = [*mine["errors"][n][-RING + 1 :], error]
        mine["erred"][n] = mine["erred"][n] * keep + (1 - keep) * error * error
    del mine["past"][: -ahead - 1]


def _judge(mine: dict[str, Any], seen: Seen, spec: Spec, served: float, dt: float) -> None:
    """Estimate how many requests have become late since the last call, served or still waiting.

    The queue is first come, first served, so the wait of the one at its head runs in between what it was at the two
    calls; and those that wait now arrived evenly.
    """
    share = _above(mine["oldest"], seen.oldest_wait, spec.wait)
    waiting = seen.queued * _above(0.0, seen.oldest_wait, spec.wait)
    late = max(0.0, served * share + waiting - mine["waiting"])
    keep = math.exp(-dt / RECENT_S)
    mine["waiting"] = waiting
    mine["served"] += seen.arrivals
    mine["missed"] += late
    mine["recent"] = [mine["recent"][0] * keep + seen.arrivals, mine["recent"][1] * keep + late]
    _price_misses(mine, late, seen.arrivals, dt)


def _above(first: float, last: float, limit: float) -> float:
    """The share of the way from one value to the other that is above the limit."""
    low, high = min(first, last), max(first, last)
    if high <= limit:
        return 0.0
    return 1.0 if low >= limit else (high - limit) / (high - low)


AIM = 0.034
YOUNG_S, YOUNGEST = 3600.0, 0.3
"""Early on, one burst can be more than all that may be missed: half as many misses are aimed at in the first hour."""

LEAST_PRICE = 0.01 / 3600
"""Where the cloud costs nothing, a miss is still worth something."""

MOST_ALLOWED, LEAST_ALLOWED = 0.08, 0.006
FIRST_WORTH = 40.0
LEAST_WORTH, MOST_WORTH = 4.0, 400.0
LEARN_WORTH_S = 1800.0
FASTEST_RISE, FASTEST_FALL = 0.1, 0.01


def _price_misses(mine: dict[str, Any], late: float, arrivals: float, dt: float) -> None:
    """What a miss is worth, in requests served in the cloud: it rises while too many are missed, else it falls."""
    rate = mine["recent"][0] / RECENT_S
    ahead = max(200.0, rate * min(PLAN_AHEAD_S, max(AT_LEAST_AHEAD_S, mine["age"])))
    aim = AIM * max(YOUNGEST, mine["life"] / (mine["life"] + YOUNG_S))
    allowed = aim + (aim * mine["served"] - mine["missed"]) / ahead
    mine["allowed"] = allowed = min(MOST_ALLOWED, max(LEAST_ALLOWED, allowed))
    if mine["ticks"] <= SETTLED_TICKS or not mine["recent"][0]:
        return
    usual = max(rate * dt, 1.0)
    push = (late - allowed * arrivals) / usual / AIM * dt / LEARN_WORTH_S
    mine["worth"] = min(
        MOST_WORTH, max(LEAST_WORTH, mine["worth"] * math.exp(min(FASTEST_RISE, max(-FASTEST_FALL, push))))
    )


def outlook(mine: dict[str, Any], seen: Seen, spec: Spec) -> Outlook:
    """What to expect, from what has happened: the best forecast, erring as it has erred."""
    service = mine["service"]
    price = max(spec.od, spec.spot, LEAST_PRICE)
    miss = mine["worth"] * AIM / mine["allowed"] * price / spec.slots_cloud * service
    if not mine["total"]:
        guesses = tuple((1 / n**2 / spec.slots_own, n * spec.slots_own - 0.5) for n in range(1, 10))
        quiet = (mine["ticks"] / FEW_TICKS, 0.0)  # the longer nobody has come, the less is expected
        return Outlook((), (quiet, *guesses), 0.0, 0.0, service, miss, known=False)
    best = min(range(len(MEMORIES_S)), key=lambda n: mine["erred"][n])
    level = mine["levels"][best] if mine["jam"] <= 0 else max(mine["levels"][best], mine["levels"][0])
    series = tuple(max(0.0, level + error) for error in mine["errors"][best])
    peak = mine["peak"]
    guesses = (
        (4.0, level + math.sqrt(level)),
        (2.0, 1.4 * level + 2),
        (BURST_TICKS, max(1.5 * peak + 4, BURST * spec.slots_own)),
    )
    few = 1 / (1 + mine["ticks"] / FEW_TICKS)
    return Outlook(
        series,
        tuple((w * few, x) for w, x in guesses),
        level,
        _backlog(mine, seen, spec, level),
        service,
        miss,
        known=True,
    )


def _backlog(mine: dict[str, Any], seen: Seen, spec: Spec, level: float) -> float:
    """Slot-seconds that will be waiting when what is ordered now is warm."""
    slots = seen.ready[0] * spec.slots_own + (seen.ready[1] + seen.ready[2]) * spec.slots_cloud
    more = seen.starting[0] * spec.slots_own
    ahead = (slots - level) * spec.cold_cloud + more * max(0.0, spec.cold_cloud - spec.cold_own)
    return max(0.0, seen.queued * float(mine["service"]) - ahead)
