"""Engines that turn requests away are left alone for as long as they said; the same one is asked again with pauses."""

import time

import pytest

from serve_app.errors import QueueFull, Refused, Unavailable
from serve_app.policies.retry import ATTEMPTS, BACKOFF_AT_MOST_S, BACKOFF_S, FAILURES_IN_A_ROW, backoff_s
from serve_app.types import Event, Priority, Routed
from tests.dispatch.conftest import Bench

LOST = Unavailable("the engine was lost")


def who(events: list[Event]) -> tuple[str, int]:
    assert isinstance(events[0], Routed)
    return events[0].decision.engine, events[0].attempts


async def test_others_are_asked_first_until_the_rest_is_over(bench: Bench) -> None:
    bench.engines["a"].script = [Refused("later", retry_after_s=30)]
    assert who(await bench.ask("ab")) == ("b", 2)
    for _ in range(50):
        assert who(await bench.ask("ab")) == ("b", 1)
        bench.clock.now += 0.59
    assert bench.engines["a"].runs == 1
    bench.clock.now += 1
    assert who(await bench.ask("ab")) == ("a", 1)


async def test_what_goes_elsewhere_takes_nothing_out_of_the_budget(bench: Bench) -> None:
    """A full house sends a whole minute's load on, not a tenth of it."""
    bench.engines["a"].otherwise = QueueFull("full")
    for _ in range(600):
        assert who(await bench.ask("ab"))[0] == "b"
        bench.clock.now += 0.1
    assert bench.engines["a"].runs <= 61


async def test_a_higher_class_still_asks_where_a_lower_one_was_turned_away(bench: Bench) -> None:
    bench.engines["a"].script = [QueueFull("full", retry_after_s=30)]
    await bench.ask("ab", priority=Priority.BATCH)
    assert who(await bench.ask("ab", priority=Priority.BATCH)) == ("b", 1)
    assert who(await bench.ask("ab", priority=Priority.PREMIUM)) == ("a", 1)


async def test_an_engine_that_is_asked_again_gets_time(bench: Bench) -> None:
    bench.engines["a"].otherwise = LOST
    for _ in range(3):
        with pytest.raises(Unavailable):
            await bench.ask("a")
    assert bench.engines["a"].runs == 3 * ATTEMPTS
    assert len(set(bench.pauses)) == len(bench.pauses) == 3 * (ATTEMPTS - 1)
    assert all(pause <= BACKOFF_S for pause in bench.pauses[::2])
    assert all(pause <= 2 * BACKOFF_S for pause in bench.pauses[1::2])


async def test_another_engine_is_asked_at_once(bench: Bench) -> None:
    bench.engines["a"].script = [LOST]
    assert who(await bench.ask("ab")) == ("b", 2)
    assert bench.pauses == []


async def test_a_short_rest_of_the_only_engine_is_waited_out(bench: Bench) -> None:
    bench.engines["a"].script = [Refused("later", retry_after_s=1)]
    assert who(await bench.ask("a")) == ("a", 2)
    assert 1 <= bench.pauses[0] <= 1 + BACKOFF_S


async def test_a_long_rest_is_passed_on(bench: Bench) -> None:
    bench.engines["a"].script = [Refused("no money", code="backend_quota", retry_after_s=300)]
    with pytest.raises(Refused) as refusal:
        await bench.ask("a")
    assert (refusal.value.retry_after_s, bench.attempts) == (300, 1)


async def test_nobody_waits_beyond_the_deadline(bench: Bench) -> None:
    bench.engines["a"].script = [Refused("later", retry_after_s=1)]
    with pytest.raises(Refused):
        await bench.ask("a", deadline=time.time() + 0.5)
    assert (bench.attempts, bench.pauses) == (1, [])


async def test_who_turns_requests_away_is_not_broken(bench: Bench) -> None:
    for _ in range(2 * FAILURES_IN_A_ROW):
        bench.engines["a"].script = [Refused("later", retry_after_s=0)]
        await bench.ask("ab")
    bench.clock.now += 0.01
    assert who(await bench.ask("ab")) == ("a", 1)


def test_pauses_grow_to_a_bound() -> None:
    assert [backoff_s(n, 1.0) for n in range(1, 8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, BACKOFF_AT_MOST_S]
    assert backoff_s(5, 0.0) == 0
