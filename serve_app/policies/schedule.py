"""How many instances an engine may have at what hour: windows of local time, across midnight too, and holidays.

A schedule is an inner clamp: it narrows what the fleet policy decides, inside what the cluster allows. Lowering a count
drains; nothing that runs is cut.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import combinations
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY = "holiday"
DAY_MIN = 24 * 60
WEEK_MIN = 7 * DAY_MIN
MANY = 10**6

Clock = Callable[[], float]
"""Seconds since the epoch, such as `time.time`."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """At least and at most so many instances, over all pools; `window` says why."""

    least: int = 0
    most: int = MANY
    window: str = "outside of every window"


@dataclass(frozen=True, slots=True)
class Window:
    """Local time `start` to `end` (HH:MM), on the days on which it starts. `end` before `start` is the next day's.

    `24:00` is the end of the day. Days are mon to sun, and `holiday` for a window that holds on holidays, too.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    start: str
    end: str
    least: int = 0
    most: int = MANY
    days: tuple[str, ...] = (*DAYS, HOLIDAY)
    name: str = ""

    @property
    def title(self) -> str:
        return self.name or f"{self.start}-{self.end}"

    @property
    def span(self) -> tuple[int, int]:
        """Minutes from the midnight before: (start, end), where an end beyond 24 h is on the next day."""
        start, end = _minutes(self.start), _minutes(self.end)
        return start, end if end > start else end + DAY_MIN


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows that don't overlap. On a holiday only the windows that name `holiday` start.

    Raises `ValueError` with one line for a schedule that contradicts itself.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    windows: tuple[Window, ...] = ()
    timezone: str = "Asia/Seoul"
    holidays: tuple[date, ...] = ()
    otherwise: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError) as error:
            raise ValueError(
                f"schedule: there is no time zone {self.timezone!r}; write one such as Asia/Seoul"
            ) from error
        for window in self.windows:
            _check(window)
        _check_bounds(self.otherwise.least, self.otherwise.most, "otherwise")
        for one, other in combinations(self.windows, 2):
            day = _common(one, other)
            if day:
                raise ValueError(f"schedule: {one.title} and {other.title} overlap on {day}; say which of them holds")

    def bounds(self, now: float) -> Bounds:
        """What holds at `now`, in seconds since the epoch."""
        local = datetime.fromtimestamp(now, ZoneInfo(self.timezone))
        minute = local.hour * 60 + local.minute
        for back in (0, 1):  # what began today comes before what is left of yesterday
            day = local.date() - timedelta(days=back)
            for window in self._starting(day):
                start, end = window.span
                if start <= minute + back * DAY_MIN < end:
                    return Bounds(window.least, window.most, window.title)
        return self.otherwise

    def _starting(self, day: date) -> Iterator[Window]:
        kind = HOLIDAY if day in self.holidays else DAYS[day.weekday()]
        return (window for window in self.windows if kind in window.days)


def clamped(counts: Mapping[str, int], bounds: Bounds, own_free: int) -> dict[str, int]:
    """One engine's counts of own, spot and od within the bounds.

    Too many: on-demand goes first, then spot, then own. Too few: own GPUs that nobody uses, then on-demand.
    """
    kept = {pool: max(0, int(counts.get(pool, 0))) for pool in ("own", "spot", "od")}
    over = sum(kept.values()) - bounds.most
    for pool in ("od", "spot", "own"):
        gone = max(0, min(over, kept[pool]))
        kept[pool] -= gone
        over -= gone
    missing = max(0, bounds.least - sum(kept.values()))
    own = min(missing, max(0, own_free))
    return kept | {"own": kept["own"] + own, "od": kept["od"] + missing - own}


def scheduled(
    decided: Mapping[str, Mapping[str, int]], schedules: Mapping[str, Schedule], now: float, own_gpus: int
) -> dict[str, dict[str, int]]:
    """What the fleet policy decided, within the schedules of the engines that have one."""
    free = own_gpus - sum(counts.get("own", 0) for counts in decided.values())
    result: dict[str, dict[str, int]] = {}
    for name, counts in decided.items():
        bounds = schedules[name].bounds(now) if name in schedules else Bounds()
        result[name] = clamped(counts, bounds, free)
        free -= result[name]["own"] - counts.get("own", 0)
    return result


def parse(settings: Mapping[str, Any]) -> Schedule:
    """A schedule from plain data: `timezone`, `windows`, `holidays` (YYYY-MM-DD) and `otherwise`."""
    known = {"timezone", "windows", "holidays", "otherwise"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ValueError(f"schedule: {unknown[0]} is not a key; there are {', '.join(sorted(known))}")
    try:
        windows = tuple(
            Window(**{**window, "days": tuple(window.get("days", (*DAYS, HOLIDAY)))})
            for window in settings.get("windows", ())
        )
        holidays = tuple(date.fromisoformat(str(day)) for day in settings.get("holidays", ()))
        otherwise = Bounds(**settings.get("otherwise", {}))
    except TypeError as error:
        raise ValueError("schedule: a window has start, end, least, most, days and name, and nothing else") from error
    return Schedule(windows, settings.get("timezone", "Asia/Seoul"), holidays, otherwise)


def _check(window: Window) -> None:
    start, end = _minutes(window.start), _minutes(window.end)
    if start == end:
        raise ValueError(f"schedule: {window.title} is empty; a whole day is 00:00 to 24:00")
    if start == DAY_MIN:
        raise ValueError(f"schedule: {window.title} starts at 24:00; write 00:00 of the next day")
    wrong = [day for day in window.days if day not in (*DAYS, HOLIDAY)]
    if wrong or not window.days:
        raise ValueError(f"schedule: {window.title} needs days out of {', '.join((*DAYS, HOLIDAY))}")
    _check_bounds(window.least, window.most, window.title)


def _check_bounds(least: int, most: int, title: str) -> None:
    if least < 0 or most < least:
        raise ValueError(f"schedule: {title} wants at least {least} and at most {most}, which cannot be")


def _minutes(text: str) -> int:
    hours, _, minutes = str(text).partition(":")
    if not (hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2):
        raise ValueError(f"schedule: {text!r} is no time; write HH:MM, in quotes")
    value = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or value > DAY_MIN:
        raise ValueError(f"schedule: {text!r} is no time; write HH:MM, in quotes")
    return value


def _common(one: Window, other: Window) -> str | None:
    """A day on which both hold, if there is one. Weekdays follow each other; a holiday may follow any day."""
    for day in one.days:
        for start, end in _spans(one, day):
            for that in other.days:
                if (day == HOLIDAY) == (that == HOLIDAY) and _meet(start, end, _spans(other, that)):
                    return day
    return None


def _spans(window: Window, day: str) -> list[tuple[int, int]]:
    offset = 0 if day == HOLIDAY else DAYS.index(day) * DAY_MIN
    start, end = window.span
    start, end = start + offset, end + offset
    if day == HOLIDAY or end <= WEEK_MIN:
        return [(start, end)]
    return [(start, WEEK_MIN), (0, end - WEEK_MIN)]


def _meet(start: int, end: int, spans: list[tuple[int, int]]) -> bool:
    return any(start < last and first < end for first, last in spans)


PEAK = Schedule(
    (Window("09:00", "23:00", least=1, most=2, name="peak"), Window("23:00", "09:00", most=1, name="off-peak"))
)
"""The plan's: two GPUs from 09:00 to 23:00 in Seoul, one at night."""
