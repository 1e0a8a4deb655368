"""Carry a planned job to an engine and bring its events back: the innermost handler, which alone knows the engines.

It is also the only place that tries again, within the deadline and the budget, and only while the caller has seen
nothing: before the first event of a stream, or before the end of an answer in one piece. So `Routed` waits for an
attempt's first event, and names the engine that answers. Afterwards a failure is passed on as what it is.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace

from serve_app import metrics
from serve_app.errors import DeadlineExceeded, EngineFailed, MegaCityError, QueueFull, Unavailable
from serve_app.policies.retry import ATTEMPTS, Breaker, Budget, Clock, may_retry
from serve_app.policies.routing import Health
from serve_app.types import Candidate, Decision, Done, Event, Handler, Job, Routed

SILENT_S = 5.0
"""A deadline that passes after less silence than this was too short; after more, the engine is taken to hang."""


def dispatch(
    engines: Mapping[str, Handler],
    health: Callable[[], Mapping[str, Health]],
    wake: Callable[[str], None],
    clock: Clock = time.monotonic,
) -> Handler:
    """The handler that sends each job to the best candidate whose engine answers.

    `wake(engine)` has a sleeping engine started and waits for nothing.
    """
    return _Dispatch(engines, health, wake, clock).run


class _Dispatch:
    def __init__(
        self,
        engines: Mapping[str, Handler],
        health: Callable[[], Mapping[str, Health]],
        wake: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._engines = engines
        self._health = health
        self._wake = wake
        self._clock = clock
        self._budget = Budget(clock)
        self._breakers = {name: Breaker(clock) for name in engines}

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self._budget.request()
        if sleeper := job.plan[0].wakes:
            self._wake(sleeper)
        candidate: Candidate | None = self._ordered(job.plan)[0]
        tried: list[Candidate] = []
        notes: list[str] = []
        while candidate:
            tried.append(candidate)
            begun = False
            try:
                async with contextlib.aclosing(self._attempt(candidate, job)) as events:
                    async for event in events:
                        if not begun:
                            begun = True
                            yield Routed(_noted(candidate, notes), attempts=len(tried))
                        yield event
                return
            except MegaCityError as error:
                shown = begun and not job.wish.whole
                following = None if shown else self._following(job, tried, error)
                if following is None:
                    raise
                notes.append(f"{candidate.decision.engine} failed: {type(error).code}")
                candidate = following

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

    def _ordered(self, plan: tuple[Candidate, ...]) -> list[Candidate]:
        """As planned, but with the engines that keep failing at the end."""
        return sorted(plan, key=lambda candidate: self._breakers[candidate.decision.engine].shut)

    def _following(self, job: Job, tried: list[Candidate], error: MegaCityError) -> Candidate | None:
        """Where to try next: an engine that is awake and has not been tried, or else the best one again.

        Serve leaves out a replica that has died, so trying an engine again reaches another one, or waits for it.
        """
        if len(tried) >= ATTEMPTS or not may_retry(job.kind, error):
            return None
        engine = tried[-1].decision.engine
        others = [candidate for candidate in self._ordered(job.plan) if self._is_fresh(candidate, tried)]
        if not others and isinstance(error, QueueFull):
            return None
        if not self._budget.spend():
            metrics.RETRIES_DENIED.labels(engine).inc()
            return None
        metrics.RETRIES.labels(engine, type(error).code).inc()
        return others[0] if others else tried[0]

    def _is_fresh(self, candidate: Candidate, tried: list[Candidate]) -> bool:
        engine = candidate.decision.engine
        used = any(other.decision.engine == engine for other in tried)
        return not used and not self._breakers[engine].shut and self._health().get(engine, "ready") == "ready"


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
        if isinstance(error, Unavailable | EngineFailed) or (isinstance(error, DeadlineExceeded) and silent):
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
