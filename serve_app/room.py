"""The waiting room beside an engine's slots: who goes next, who is turned away, and who has waited too long.

A class goes before the lower ones. Within a class tenants take turns, and a tenant's own requests keep their order. So
that nobody waits for ever, a waiter rises by one class every `AGEING_S`, and one hand-over in `AGED_TURN` goes by the
risen class; the others go by the waiter's own, so that the premium class keeps its place however long the rest has
waited. A full room turns away the lowest class, there the tenant that holds most places, and of those the youngest.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from serve_app import metrics
from serve_app.errors import DeadlineExceeded, QueueFull
from serve_app.types import Job, Priority

AGEING_S = 30.0
AGED_TURN = 8
RETRY_AFTER_AT_MOST_S = 60
SMOOTHING = 0.2
"""Weight of the newest run in the mean time for which a slot is held."""

Clock = Callable[[], float]


@dataclass(eq=False, slots=True)
class _Waiter:
    tenant: str
    priority: Priority
    arrived: int
    since: float
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def risen(self, now: float) -> int:
        """Its class after ageing."""
        return max(0, self.priority - int((now - self.since) / AGEING_S))


class Room:
    """At most `slots` runs at a time and `waiting` others in the room. It belongs to one event loop."""

    def __init__(self, engine: str, slots: int, waiting: int, clock: Clock = time.monotonic) -> None:
        self.slots = slots
        self.places = waiting
        self.busy = 0
        self.waiters: list[_Waiter] = []
        self._clock = clock
        self._arrivals = 0
        self.came = 0
        self._handed_over = 0
        self._turns: dict[tuple[str, Priority], int] = {}
        self._mean_held_s = 0.0
        self._busy_gauge = metrics.ENGINE_BUSY.labels(engine)
        self._waiting_gauges = {p: metrics.ENGINE_WAITING.labels(engine, p.name.lower()) for p in Priority}

    @contextlib.asynccontextmanager
    async def slot(self, job: Job) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises `QueueFull` and `DeadlineExceeded`."""
        await self._enter(job)
        started = self._clock()
        try:
            if _seconds_left(job) <= 0:
                raise _too_late()
            yield
        finally:
            self._learn(self._clock() - started)
            self._leave()

    def oldest_wait_s(self) -> float:
        """How long whoever has waited longest has waited."""
        return self._clock() - min((waiter.since for waiter in self.waiters), default=self._clock())

    async def _enter(self, job: Job) -> None:
        self.came += 1
        if _seconds_left(job) <= 0:
            raise _too_late()
        if self.busy < self.slots:
            self._set_busy(self.busy + 1)
            return
        waiter = self._admit(job)
        try:
            async with asyncio.timeout(_timeout(job)):
                await waiter.turn
        except BaseException as error:  # a cancelled task, too, must not keep its place or its slot
            self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                raise _too_late() from None
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        """Whoever gives up may have been handed a slot in the same moment: it goes to the next."""
        if waiter in self.waiters:
            self._remove(waiter)
        elif waiter.turn.done() and not waiter.turn.cancelled() and not waiter.turn.exception():
            self._leave()

    def _admit(self, job: Job) -> _Waiter:
        """A place in the room, at the cost of whoever has to go if it is full."""
        waiter = _Waiter(job.caller.tenant, job.constraints.priority, self._arrivals, self._clock())
        self._arrivals += 1
        self.waiters.append(waiter)
        self._turns.setdefault((waiter.tenant, waiter.priority), self._next_turn())
        if len(self.waiters) > self.places:
            excess = self._least_entitled()
            self._remove(excess)
            refusal = self._refusal()
            if excess is waiter:
                raise refusal
            if not excess.turn.done():
                excess.turn.set_exception(refusal)
        self._show_waiting(waiter.priority)
        return waiter

    def _least_entitled(self) -> _Waiter:
        lowest = max(waiter.priority for waiter in self.waiters)
        there = [waiter for waiter in self.waiters if waiter.priority == lowest]
        held = Counter(waiter.tenant for waiter in there)
        return max(there, key=lambda waiter: (held[waiter.tenant], waiter.arrived))

    def _leave(self) -> None:
        """Hand the slot to the next waiter, or leave it free."""
        while self.waiters:
            waiter = self._next()
            self._remove(waiter, served=True)
            if not waiter.turn.done():  # its task has been cancelled, but has not run since
                self._handed_over += 1
                waiter.turn.set_result(None)
                return
        self._set_busy(self.busy - 1)

    def _next(self) -> _Waiter:
        aged, now = self._handed_over % AGED_TURN == AGED_TURN - 1, self._clock()

        def order(waiter: _Waiter) -> tuple[int, int, int]:
            rank = waiter.risen(now) if aged else waiter.priority
            return rank, self._turns[waiter.tenant, waiter.priority], waiter.arrived

        return min(self.waiters, key=order)

    def _remove(self, waiter: _Waiter, served: bool = False) -> None:
        self.waiters.remove(waiter)
        key = waiter.tenant, waiter.priority
        if not any((other.tenant, other.priority) == key for other in self.waiters):
            del self._turns[key]
        elif served:
            self._turns[key] = self._next_turn()
        self._show_waiting(waiter.priority)

    def _next_turn(self) -> int:
        return max(self._turns.values(), default=0) + 1

    def _refusal(self) -> QueueFull:
        """`Retry-After` is the time in which the room, as it is now, will have emptied."""
        seconds = (len(self.waiters) + 1) * self._mean_held_s / self.slots
        retry_after_s = min(max(1, math.ceil(seconds)), RETRY_AFTER_AT_MOST_S)
        return QueueFull("Too many requests wait for this engine; try again shortly.", retry_after_s=retry_after_s)

    def _learn(self, held_s: float) -> None:
        weight = SMOOTHING if self._mean_held_s else 1.0
        self._mean_held_s += weight * (held_s - self._mean_held_s)

    def _set_busy(self, busy: int) -> None:
        self.busy = busy
        self._busy_gauge.set(busy)

    def _show_waiting(self, priority: Priority) -> None:
        self._waiting_gauges[priority].set(sum(waiter.priority == priority for waiter in self.waiters))


def _seconds_left(job: Job) -> float:
    deadline = job.constraints.deadline
    return math.inf if deadline is None else deadline - time.time()


def _timeout(job: Job) -> float | None:
    return None if job.constraints.deadline is None else _seconds_left(job)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The deadline passed before a slot was free.")
