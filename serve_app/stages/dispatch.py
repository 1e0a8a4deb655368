"""Carry a planned job to an engine and bring its events back: the innermost handler, which alone knows the engines.

It is also the only place that tries again, within the deadline and the budget, and only while the caller has seen
nothing: before the first event of a stream, or before the end of an answer in one piece. So `Routed` waits for an
attempt's first event, and names the engine that answers. Afterwards a failure is passed on as what it is.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace

from serve_app import metrics
from serve_app.errors import DeadlineExceeded, EngineFailed, Lost, MegaCityError, QueueFull, Refused, Unavailable
from serve_app.policies.retry import (
    BACKOFF_AT_MOST_S,
    Accidents,
    Breaker,
    Budget,
    Clock,
    Rest,
    backoff_s,
    exhausted,
    may_retry,
)
from serve_app.policies.routing import Health
from serve_app.types import Candidate, Decision, Done, Event, Handler, Job, Priority, Routed

SILENT_S = 5.0
"""A deadline that passes after less silence than this was too short; after more, the engine is taken to hang."""


def dispatch(
    engines: Mapping[str, Handler],
    health: Callable[[], Mapping[str, Health]],
    wake: Callable[[str], None],
    clock: Clock = time.monotonic,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Handler:
    """The handler that sends each job to the best candidate whose engine answers.

    `wake(engine)` has a sleeping engine started and waits for nothing; `pause(s)` waits before the same engine is asked
    again.
    """
    return _Dispatch(engines, health, wake, clock, pause).run


class _Dispatch:
    def __init__(
        self,
        engines: Mapping[str, Handler],
        health: Callable[[], Mapping[str, Health]],
        wake: Callable[[str], None],
        clock: Clock,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._engines = engines
        self._health = health
        self._wake = wake
        self._clock = clock
        self._pause = pause
        self._budget = Budget(clock)
        self._breakers = {name: Breaker(clock) for name in engines}
        self._rests = {name: Rest(clock) for name in engines}
        self._accidents = {name: Accidents(clock) for name in engines}

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self._budget.request()
        if sleeper := job.plan[0].wakes:
            self._wake(sleeper)
        candidate = self._ordered(job)[0]
        tried: list[Candidate] = []
        notes: list[str] = []
        while True:
            tried.append(candidate)
            begun, since = False, self._clock()
            try:
                async with contextlib.aclosing(self._attempt(candidate, job)) as events:
                    async for event in events:
                        if not begun:
                            begun = True
                            yield Routed(_noted(candidate, notes), attempts=len(tried))
                        yield event
                return
            except MegaCityError as error:
                self._rests[candidate.decision.engine].refused(error, job.constraints.priority)
                shown = begun and not job.wish.whole
                free = isinstance(error, Lost) and not self._accidents[candidate.decision.engine].counts(since)
                following = None if shown else self._following(job, tried, error, free)
                if following is None:
                    raise
                notes.append(f"{candidate.decision.engine} failed: {type(error).code}")
                candidate, wait_s = following
            if wait_s:
                await self._pause(wait_s)

    async def _attempt(self, candidate: Candidate, job: Job) -> AsyncGenerator[Event]:
        """One run of one engine, which ends with its `Done` or an error and leaves its mark on the breaker."""
        attempt = _Attempt(candidate.decision.engine, self._breakers[candidate.decision.engine], self._clock)
        try:
            run = self._engines[attempt.engine](candidate.apply(job))
            async with contextlib.aclosing(_until(job.constraints.deadline, run)) as events:
                async for event in events:
                    attempt.see(event)
                    yield event
            attempt.check_done()
        except MegaCityError as error:
            attempt.fail(error)
            raise
        finally:
            attempt.end()

    def _ordered(self, job: Job) -> list[Candidate]:
        """As planned, but with the engines that keep failing, or turn requests like this one away, at the end."""
        return sorted(job.plan, key=lambda candidate: self._is_out(candidate.decision.engine, job.constraints.priority))

    def _is_out(self, engine: str, priority: Priority) -> bool:
        return self._breakers[engine].shut or self._rests[engine].left_s(priority) > 0

    def _following(
        self, job: Job, tried: list[Candidate], error: MegaCityError, free: bool
    ) -> tuple[Candidate, float] | None:
        """Where to try next, and after how many seconds: an engine that is awake and has not been tried, or else the
        best one again. A `free` retry is not held to the budget.

        Serve leaves out a replica that has died, so trying an engine again reaches another one, or waits for it.
        """
        if exhausted(len(tried), error) or not may_retry(job.kind, error):
            return None
        engine = tried[-1].decision.engine
        others = [(candidate, 0.0) for candidate in self._ordered(job) if self._is_fresh(candidate, tried, job)]
        found = others[0] if others else self._again(job, tried, error)
        if found is None:
            return None
        if not free and not self._budget.spend():
            metrics.RETRIES_DENIED.labels(engine).inc()
            return None
        metrics.RETRIES.labels(engine, type(error).code).inc()
        return found

    def _again(self, job: Job, tried: list[Candidate], error: MegaCityError) -> tuple[Candidate, float] | None:
        """A candidate that was tried before, if one is worth waiting for."""
        if isinstance(error, QueueFull):
            return None
        rests = [self._rests[candidate.decision.engine].left_s(job.constraints.priority) for candidate in tried]
        least = min(range(len(tried)), key=lambda at: max(rests[at], 0.0))
        wait_s = max(rests[least], 0.0) + backoff_s(len(tried), random.random())
        deadline = job.constraints.deadline
        late = deadline is not None and time.time() + wait_s >= deadline
        return None if late or rests[least] > BACKOFF_AT_MOST_S else (tried[least], wait_s)

    def _is_fresh(self, candidate: Candidate, tried: list[Candidate], job: Job) -> bool:
        engine = candidate.decision.engine
        used = any(other.decision.engine == engine for other in tried)
        out = self._is_out(engine, job.constraints.priority)
        return not used and not out and self._health().get(engine, "ready") == "ready"


class _Attempt:
    """What became of one run of one engine."""

    def __init__(self, engine: str, breaker: Breaker, clock: Clock) -> None:
        self.engine = engine
        self._breaker = breaker
        self._clock = clock
        self._since = clock()
        self._begun = False
        self._outcome = "cancelled"
        breaker.attempted()

    def see(self, event: Event) -> None:
        if not self._begun:
            self._begun = True
            self._breaker.succeeded()
        if isinstance(event, Done):
            self._outcome = "ok"

    def check_done(self) -> None:
        """Raise if the run has ended without saying so: what came may look whole, and is not."""
        if self._outcome != "ok":
            raise EngineFailed(f"engine {self.engine} stopped before its answer was complete; try again")

    def fail(self, error: MegaCityError) -> None:
        self._outcome = type(error).code or "internal_error"
        silent = not self._begun and self._clock() - self._since >= SILENT_S
        broke = isinstance(error, Unavailable | EngineFailed) and not isinstance(error, Refused)
        if broke or (isinstance(error, DeadlineExceeded) and silent):
            self._breaker.failed(self._since)

    def end(self) -> None:
        metrics.ATTEMPTS.labels(self.engine, self._outcome).inc()
        metrics.BREAKER_OPEN.labels(self.engine).set(self._breaker.open)


def _noted(candidate: Candidate, notes: list[str]) -> Decision:
    return replace(candidate.decision, reasons=(*candidate.decision.reasons, *notes))


def _until(deadline: float | None, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    return events if deadline is None else _limited(deadline, events)


async def _limited(deadline: float, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """The events until the deadline, in seconds since the epoch; then the run is closed."""
    async with contextlib.aclosing(events):
        while True:
            try:
                async with asyncio.timeout(deadline - time.time()):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineExceeded("The deadline passed before the answer was complete.") from None
            yield event
