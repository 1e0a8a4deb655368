"""Windows of local time, and the model that wakes on demand."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from serve_app.policies.ondemand import OnDemand, waking
from serve_app.policies.schedule import PEAK, Bounds, Schedule, Window, clamped, parse, scheduled

SEOUL = ZoneInfo("Asia/Seoul")
NIGHT = {"start": "23:00", "end": "03:00", "days": ["sun"]}


def _at(text):
    return datetime.fromisoformat(text).replace(tzinfo=SEOUL).timestamp()


@pytest.mark.parametrize(
    ("when", "window", "most"),
    [
        ("2026-11-20T08:59:59", "off-peak", 1),
        ("2026-11-20T09:00:00", "peak", 2),
        ("2026-11-20T22:59:59", "peak", 2),
        ("2026-11-20T23:00:00", "off-peak", 1),
        ("2026-11-21T00:00:00", "off-peak", 1),
        ("2026-12-31T23:59:59", "off-peak", 1),
        ("2027-01-01T03:00:00", "off-peak", 1),
    ],
)
def test_the_plan_by_day_and_across_midnight(when, window, most):
    assert PEAK.bounds(_at(when)) == Bounds(1 if window == "peak" else 0, most, window)


def test_seoul_has_no_summer_time():
    nine = timezone(timedelta(hours=9))
    for month in range(1, 13):
        moment = datetime(2026, month, 15, 9, 0, tzinfo=nine).timestamp()
        assert PEAK.bounds(moment).window == "peak"
        assert PEAK.bounds(moment - 1).window == "off-peak"


def test_a_window_across_midnight_belongs_to_the_day_on_which_it_starts():
    schedule = Schedule((Window("22:00", "02:00", most=3, days=("fri",), name="party"),))
    assert schedule.bounds(_at("2026-11-20T23:00:00")).window == "party"
    assert schedule.bounds(_at("2026-11-21T01:59:00")).window == "party"
    assert schedule.bounds(_at("2026-11-20T01:00:00")).most == Bounds().most


def test_on_a_holiday_only_its_own_windows_start():
    schedule = parse(
        {
            "windows": [
                {
                    "start": "09:00",
                    "end": "23:00",
                    "least": 1,
                    "days": ["mon", "tue", "wed", "thu", "fri"],
                    "name": "work",
                },
                {"start": "10:00", "end": "18:00", "most": 1, "days": ["holiday"], "name": "feast"},
            ],
            "holidays": ["2026-09-25"],
        }
    )
    assert schedule.bounds(_at("2026-09-24T12:00:00")).window == "work"
    assert schedule.bounds(_at("2026-09-25T12:00:00")).window == "feast"
    assert schedule.bounds(_at("2026-09-25T20:00:00")) == Bounds()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"windows": [{"start": "09:00", "end": "12:00", "least": 3, "most": 2}]}, "at least 3 and at most 2"),
        ({"windows": [{"start": "09:00", "end": "09:00"}]}, "is empty"),
        ({"windows": [{"start": "09:00", "end": "23:00"}, {"start": "22:00", "end": "09:00"}]}, "overlap on mon"),
        ({"windows": [NIGHT, {"start": "00:00", "end": "24:00", "days": ["mon"]}]}, "overlap"),
        ({"windows": [{"start": "9", "end": "10:00"}]}, "no time"),
        ({"windows": [{"start": "25:00", "end": "10:00"}]}, "no time"),
        ({"windows": [{"start": "09:00", "end": "10:00", "days": ["someday"]}]}, "needs days"),
        ({"windows": [{"start": "09:00", "end": "10:00", "colour": "red"}]}, "and nothing else"),
        ({"timezone": "Asia/Atlantis"}, "no time zone"),
        ({"window": []}, "is not a key"),
        ({"otherwise": {"least": 2, "most": 1}}, "cannot be"),
    ],
)  # fmt: skip
def test_a_schedule_that_contradicts_itself_is_refused_in_one_line(settings, said):
    with pytest.raises(ValueError, match=said) as refused:
        parse(settings)
    assert "\n" not in str(refused.value)


def test_a_clamp_lets_the_dearest_go_first_and_fills_own_gpus_first():
    many = {"own": 2, "spot": 1, "od": 3}
    assert clamped(many, Bounds(0, 3), 0) == {"own": 2, "spot": 1, "od": 0}
    assert clamped(many, Bounds(0, 0), 0) == {"own": 0, "spot": 0, "od": 0}
    assert clamped({"own": 0, "spot": 0, "od": 0}, Bounds(3), 2) == {"own": 2, "spot": 0, "od": 1}


def test_a_schedule_narrows_what_the_policy_decides():
    decided = {"chat": {"own": 1, "spot": 0, "od": 4}, "gen": {"own": 1, "spot": 1, "od": 0}}
    narrowed = scheduled(decided, {"chat": PEAK}, _at("2026-11-20T12:00:00"), own_gpus=3)
    assert narrowed == {"chat": {"own": 1, "spot": 0, "od": 1}, "gen": decided["gen"]}


def _run(rule, calls):
    mem = {}
    return [waking(rule, t, arrivals, called, busy, mem) for t, arrivals, called, busy in calls]


def test_code_words_wake_the_coder_and_half_an_hour_of_nothing_lets_it_sleep():
    found = _run(
        OnDemand(), [(0, 0, False, False), (10, 1, True, False), (1809, 0, False, False), (1811, 0, False, False)]
    )
    assert [waking.awake for waking in found] == [False, True, True, False]


def test_more_than_ten_in_ten_minutes_wake_it_and_ten_do_not():
    ten = _run(OnDemand(), [(n * 60, 1, False, False) for n in range(10)])
    assert not any(waking.awake for waking in ten)
    slow = _run(OnDemand(), [(n * 61, 1, False, False) for n in range(30)])
    assert not any(waking.awake for waking in slow)
    assert _run(OnDemand(), [(0, 11, False, False)])[0] == waking(OnDemand(), 5, 11, False, False, {})


def test_work_in_flight_keeps_it_awake():
    found = _run(OnDemand(), [(0, 1, True, False), *((n * 600, 0, False, True) for n in range(1, 10))])
    assert all(waking.awake for waking in found)
