"""Retries stay a small share of the load, and failing engines are left alone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

import pytest

from serve_app.errors import BadRequest, DeadlineExceeded, Lost, MegaCityError, Unavailable
from serve_app.policies.retry import (
    BUDGET_FLOOR,
    BUDGET_SHARE,
    FAILURES_IN_A_ROW,
    LOSSES,
    OUTCOMES_TO_JUDGE,
    PROBE_S,
    WINDOW_S,
    Breaker,
    Budget,
)
from serve_app.stages.dispatch import SILENT_S, dispatch
from serve_app.types import Done, Event, Job, Routed
from tests.dispatch.conftest import Bench, Clock, job

LOST = Unavailable("the engine was lost")


async def outcome(bench: Bench, plan: str) -> list[Event]:
    with contextlib.suppress(MegaCityError):
        return await bench.ask(plan)
    return []


@pytest.mark.parametrize("plan", ["a", "abc"])
async def test_a_backend_that_always_fails_gets_at_most_a_tenth_more(bench: Bench, plan: str) -> None:
    """60 s at 50 requests a second (G23)."""
    for engine in bench.engines.values():
        engine.otherwise = LOST
    for _ in range(60 * 50):
        assert await outcome(bench, plan) == []
        bench.clock.now += 0.02
    assert bench.attempts <= 3000 * (1 + BUDGET_SHARE)


async def test_service_is_back_soon_after_an_engine_is_well(bench: Bench) -> None:
    bench.engines["a"].otherwise = LOST
    for _ in range(500):
        await outcome(bench, "a")
        bench.clock.now += 0.02
    bench.engines["a"].otherwise = "ok"
    answers = [await outcome(bench, "a") for _ in range(100)]
    assert all(answers)


async def test_all_runs_of_a_lost_machine_are_repeated() -> None:
    """However many they are: together they are one accident."""
    clock, gone = Clock(), asyncio.Event()

    async def engine(_: Job) -> AsyncGenerator[Event]:
        if not gone.is_set():
            await gone.wait()
            raise Lost("gone")
        yield Done()

    run = dispatch({"a": engine}, dict, lambda _: None, clock, lambda _: asyncio.sleep(0))
    begun = [asyncio.create_task(anext(run(job("a")))) for _ in range(100)]
    await asyncio.sleep(0)
    clock.now += 1
    gone.set()
    assert all(isinstance(first, Routed) for first in await asyncio.gather(*begun))


@pytest.mark.parametrize("plan", ["a", "abc"])
async def test_an_engine_that_every_run_ends_gets_at_most_a_tenth_more(bench: Bench, plan: str) -> None:
    for engine in bench.engines.values():
        engine.otherwise = Lost("gone")
    for _ in range(60 * 50):
        assert await outcome(bench, plan) == []
        bench.clock.now += 0.02
    assert bench.attempts <= 3000 * (1 + BUDGET_SHARE)


async def test_a_run_that_machines_take_with_them_is_tried_six_times(bench: Bench) -> None:
    bench.engines["a"].otherwise = Lost("gone")
    with pytest.raises(Lost):
        await bench.ask("a")
    assert bench.attempts == LOSSES


async def test_a_single_failure_in_a_quiet_hour_is_tried_again(bench: Bench) -> None:
    for _ in range(BUDGET_FLOOR):
        bench.engines["a"].script = [LOST]
        assert await bench.ask("a")
        bench.clock.now += 60


def test_the_budget_follows_the_load(bench: Bench) -> None:
    budget = Budget(bench.clock)
    for _ in range(1000):
        budget.request()
    assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]
    bench.clock.now += WINDOW_S + 1
    assert [budget.spend() for _ in range(BUDGET_FLOOR + 1)] == [True] * BUDGET_FLOOR + [False]


async def test_an_engine_that_keeps_failing_goes_to_the_end(bench: Bench) -> None:
    bench.engines["a"].otherwise = LOST
    for _ in range(FAILURES_IN_A_ROW + 5):
        assert await bench.ask("ab")
    assert bench.engines["a"].runs == FAILURES_IN_A_ROW
    assert bench.engines["b"].runs == FAILURES_IN_A_ROW + 5


async def test_it_is_probed_once_a_second_and_comes_back(bench: Bench) -> None:
    bench.engines["a"].otherwise = LOST
    for _ in range(FAILURES_IN_A_ROW):
        await bench.ask("ab")
    probes = bench.engines["a"].runs
    for _ in range(50):
        bench.clock.now += 0.1
        await bench.ask("ab")
    assert 4 <= bench.engines["a"].runs - probes <= 5
    bench.engines["a"].otherwise = "ok"
    bench.clock.now += PROBE_S
    for _ in range(3):
        first = (await bench.ask("ab"))[0]
        assert isinstance(first, Routed)
        assert first.decision.engine == "a"


async def test_a_probe_in_flight_holds_back_the_next(bench: Bench) -> None:
    bench.engines["a"].otherwise = LOST
    for _ in range(FAILURES_IN_A_ROW):
        await bench.ask("ab")
    breaker = Breaker(bench.clock)
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(bench.clock.now)
    bench.clock.now += PROBE_S
    assert not breaker.shut
    breaker.attempted()
    assert breaker.shut


def test_the_runs_of_one_lost_replica_are_one_failure(bench: Bench) -> None:
    breaker = Breaker(bench.clock)
    began = bench.clock.now
    for _ in range(OUTCOMES_TO_JUDGE):
        breaker.succeeded()
    bench.clock.now += 1
    for _ in range(FAILURES_IN_A_ROW + 1):
        breaker.failed(began)
    assert not breaker.open


async def test_a_lone_engine_is_tried_again_whatever_its_breaker_says(bench: Bench) -> None:
    """Of several replicas one may be lost, with many runs, while the others are well."""
    for _ in range(2 * FAILURES_IN_A_ROW):
        bench.engines["a"].script = [LOST]
        assert await bench.ask("a")


def test_every_second_failure_opens_too() -> None:
    breaker = Breaker(Clock())
    for _ in range(OUTCOMES_TO_JUDGE // 2):
        breaker.succeeded()
        breaker.failed(0)
    assert breaker.open


def test_few_failures_among_many_do_not_open() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(1000):
        breaker.succeeded()
        breaker.succeeded()
        breaker.failed(clock.now)
        clock.now += 0.01
    assert not breaker.open


def test_old_failures_are_forgotten() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(100):
        breaker.succeeded()
        breaker.failed(clock.now)
        clock.now += WINDOW_S
    assert not breaker.open


async def test_callers_in_a_hurry_do_not_open_it(bench: Bench) -> None:
    bench.engines["a"].otherwise = "hang"
    for _ in range(2 * OUTCOMES_TO_JUDGE):
        with pytest.raises(DeadlineExceeded):
            await bench.ask("a", deadline=time.time() + 0.001)
    bench.engines["a"].otherwise = "ok"
    assert await bench.ask("ab")
    assert bench.engines["b"].runs == 0


async def test_an_engine_that_hangs_is_left_alone(bench: Bench) -> None:
    bench.engines["a"].otherwise = "hang"
    for _ in range(FAILURES_IN_A_ROW):
        asking = asyncio.create_task(bench.ask("ab", deadline=time.time() + 0.02))
        await asyncio.sleep(0)
        bench.clock.now += SILENT_S
        with pytest.raises(DeadlineExceeded):
            await asking
    bench.clock.now += 0.1
    assert await bench.ask("ab")
    assert bench.engines["b"].runs == 1


async def test_bad_requests_say_nothing_about_an_engine(bench: Bench) -> None:
    bench.engines["a"].otherwise = BadRequest("bad")
    for _ in range(2 * OUTCOMES_TO_JUDGE):
        await outcome(bench, "ab")
    assert bench.engines["b"].runs == 0
