"""Whether to try again: which failures, how much of it in all, and which engines to leave alone for a while.

A retry helps against a single fault and makes a general one worse. So retries are at most a tenth of the requests of
the last ten seconds (Google's SRE book, chapter 22, advises the same share), and an engine that keeps failing goes to
the end of every list until one request a second finds it well again. So does one that has turned a request away, for as
long as it said; what follows goes elsewhere at once, and takes nothing out of the budget. And the runs that one
accident of a replica or a machine ends take one retry out of it together: all of them have to be repeated.
"""

import math
from collections import Counter
from collections.abc import Callable

from serve_app.errors import EngineFailed, Lost, MegaCityError, QueueFull, Refused, Unavailable
from serve_app.types import Kind, Priority

ATTEMPTS = 3
LOSSES = 6
"""Attempts of a run that machines take with them. A run that is itself the reason takes no more of them than this."""

WINDOW_S = 10
BUDGET_SHARE = 0.1
BUDGET_FLOOR = 10
"""Retries in a window that are allowed however few requests there are."""

FAILURES_IN_A_ROW = 5
FAILED_SHARE = 0.5
OUTCOMES_TO_JUDGE = 10
PROBE_S = 1.0

BACKOFF_S = 0.05
BACKOFF_AT_MOST_S = 1.0
"""Also how long a rest may be that is waited out, if nobody else can answer."""

REPEATABLE = frozenset({Kind.CHAT, Kind.COMPLETION, Kind.EMBEDDING})
"""Kinds of job that leave nothing behind in their engine, so that a lost run can be repeated."""

Clock = Callable[[], float]


def may_retry(kind: Kind, error: MegaCityError) -> bool:
    """Whether a run that has failed before its first event may go to an engine again."""
    nothing_ran = isinstance(error, QueueFull | Refused)
    return nothing_ran or (kind in REPEATABLE and isinstance(error, Unavailable | EngineFailed))


def exhausted(attempts: int, error: MegaCityError) -> bool:
    """Whether a run has been tried as often as it may be."""
    return attempts >= (LOSSES if isinstance(error, Lost) else ATTEMPTS)


def backoff_s(attempts: int, luck: float) -> float:
    """How long to wait before the same engine is asked again: exponential, with full jitter; `luck` is from 0 to 1."""
    return luck * min(BACKOFF_AT_MOST_S, BACKOFF_S * 2.0 ** (attempts - 1))


class Window:
    """How often something happened in the last `WINDOW_S` seconds, counted by the second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: dict[int, Counter[str]] = {}

    def add(self, what: str) -> None:
        self._seconds.setdefault(int(self._clock()), Counter())[what] += 1

    def count(self, what: str) -> int:
        oldest = int(self._clock()) - WINDOW_S
        for second in [second for second in self._seconds if second <= oldest]:
            del self._seconds[second]
        return sum(counts[what] for counts in self._seconds.values())

    def clear(self) -> None:
        self._seconds.clear()


class Budget:
    """Holds retries to a share of the requests."""

    def __init__(self, clock: Clock) -> None:
        self._window = Window(clock)

    def request(self) -> None:
        self._window.add("request")

    def spend(self) -> bool:
        """Take one retry out of the budget, if it is not exhausted."""
        allowed = max(BUDGET_FLOOR, int(BUDGET_SHARE * self._window.count("request")))
        if self._window.count("retry") >= allowed:
            return False
        self._window.add("retry")
        return True


class Rest:
    """Until when an engine that has turned requests away is left alone by others of that class or a lower one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[Priority, float] = {}

    def refused(self, error: MegaCityError, priority: Priority) -> None:
        if isinstance(error, QueueFull | Refused):
            self._until[priority] = self._clock() + (error.retry_after_s or 0)

    def left_s(self, priority: Priority) -> float:
        """Seconds until a request of this class may find it otherwise; 0 or less if it may now."""
        return max((until for of, until in self._until.items() if of <= priority), default=0.0) - self._clock()


class Accidents:
    """Tells one loss of a replica or a machine from the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = -math.inf

    def counts(self, since: float) -> bool:
        """Take down the loss of a run that began at `since`; false if the accident that took others took it, too."""
        new = since >= self._last
        if new:
            self._last = self._clock()
        return new


class Breaker:
    """Opens for an engine that fails again and again, or every second time; closes when a probe succeeds."""

    def __init__(self, clock: Clock) -> None:
        self.open = False
        self._clock = clock
        self._window = Window(clock)
        self._in_a_row = 0
        self._failed = self._probed = 0.0

    @property
    def shut(self) -> bool:
        """Open, and the next probe is not due yet."""
        return self.open and self._clock() - self._probed < PROBE_S

    def attempted(self) -> None:
        self._probed = self._clock()

    def succeeded(self) -> None:
        if self.open:
            self.open = False
            self._window.clear()
        self._in_a_row = 0
        self._window.add("succeeded")

    def failed(self, since: float) -> None:
        """Count a failed run that began at `since`. Those that one lost replica takes with it are one after all."""
        self._in_a_row += since >= self._failed
        self._failed = self._clock()
        self._window.add("failed")
        failed, succeeded = self._window.count("failed"), self._window.count("succeeded")
        often = failed + succeeded >= OUTCOMES_TO_JUDGE and failed >= FAILED_SHARE * (failed + succeeded)
        if not self.open and (often or self._in_a_row >= FAILURES_IN_A_ROW):
            self.open = True
            self._probed = self._clock()
