"""What is tried again, where, and what is not."""

import asyncio
import contextlib
import time

import pytest

from serve_app.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    Forbidden,
    MegaCityError,
    QueueFull,
    Unavailable,
)
from serve_app.policies.retry import ATTEMPTS
from serve_app.types import Delta, Done, Event, Routed
from tests.dispatch.conftest import Bench, job

LOST = Unavailable("the engine was lost")


def answered(events: list[Event]) -> str:
    """The engine that answered, which is the one that the run says."""
    first, *rest, last = events
    assert isinstance(first, Routed)
    assert isinstance(last, Done)
    assert [event.text for event in rest if isinstance(event, Delta)] == [first.decision.engine]
    return first.decision.engine


async def test_the_best_candidate_answers(bench: Bench) -> None:
    events = await bench.ask()
    assert answered(events) == "a"
    assert events[0] == Routed(job().plan[0].decision)
    assert bench.engines["a"].models == ["model-a"]


@pytest.mark.parametrize("error", [LOST, EngineFailed("broke"), QueueFull("full")])
async def test_another_candidate_answers_for_an_engine_that_fails(bench: Bench, error: MegaCityError) -> None:
    bench.engines["a"].script = [error]
    events = await bench.ask()
    assert answered(events) == "b"
    assert isinstance(events[0], Routed)
    assert events[0].decision.reasons == ("default", f"a failed: {type(error).code}")


@pytest.mark.parametrize("error", [LOST, EngineFailed("broke")])
async def test_the_only_candidate_is_tried_again(bench: Bench, error: MegaCityError) -> None:
    bench.engines["a"].script = [error]
    assert answered(await bench.ask("a")) == "a"
    assert bench.engines["a"].runs == 2


async def test_a_full_engine_is_not_asked_again(bench: Bench) -> None:
    bench.engines["a"].script = [QueueFull("full", retry_after_s=7)]
    with pytest.raises(QueueFull) as refusal:
        await bench.ask("a")
    assert refusal.value.retry_after_s == 7
    assert bench.attempts == 1


@pytest.mark.parametrize("error", [BadRequest("bad"), Forbidden("no"), DeadlineExceeded("late")])
async def test_what_is_no_fault_of_the_engine_is_not_tried_again(bench: Bench, error: MegaCityError) -> None:
    bench.engines["a"].script = [error]
    with pytest.raises(type(error)):
        await bench.ask()
    assert bench.attempts == 1


async def test_there_are_at_most_three_attempts(bench: Bench) -> None:
    for engine in bench.engines.values():
        engine.otherwise = LOST
    with pytest.raises(Unavailable):
        await bench.ask()
    assert bench.attempts == ATTEMPTS


async def test_a_sleeping_engine_is_no_way_out(bench: Bench) -> None:
    bench.health = {"a": "ready", "b": "waking", "c": "ready"}
    bench.engines["a"].script = [LOST]
    assert answered(await bench.ask()) == "c"


async def test_two_models_of_one_engine_are_one_engine(bench: Bench) -> None:
    bench.engines["a"].script = [QueueFull("full")]
    assert answered(await bench.ask("aab")) == "b"


async def test_after_the_first_event_a_failure_is_passed_on(bench: Bench) -> None:
    bench.engines["a"].script, bench.engines["a"].after_first = ["broken"], LOST
    run = bench.run(job())
    assert [type(await anext(run)) for _ in range(2)] == [Routed, Delta]
    with pytest.raises(Unavailable):
        await anext(run)
    assert bench.attempts == 1


async def test_an_answer_that_stops_without_its_end_is_a_failure(bench: Bench) -> None:
    bench.engines["a"].script = ["cut"]
    with pytest.raises(EngineFailed):
        await bench.ask()
    assert bench.attempts == 1


async def test_a_run_that_ends_before_it_began_is_tried_again(bench: Bench) -> None:
    bench.engines["a"].script = ["nothing"]
    assert answered(await bench.ask()) == "b"


async def test_a_hanging_engine_is_left_at_the_deadline(bench: Bench) -> None:
    bench.engines["a"].script = ["hang"]
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await bench.ask(deadline=time.time() + 0.1)
    assert time.monotonic() - started < 1
    assert bench.engines["a"].open_runs == 0
    assert bench.attempts == 1


async def test_the_deadline_holds_in_the_middle_of_an_answer(bench: Bench) -> None:
    bench.engines["a"].script = ["hang later"]
    with pytest.raises(DeadlineExceeded):
        await bench.ask(deadline=time.time() + 0.1)
    assert bench.engines["a"].open_runs == 0


async def test_an_answer_in_time_is_left_alone_by_its_deadline(bench: Bench) -> None:
    assert answered(await bench.ask(deadline=time.time() + 5)) == "a"


@pytest.mark.parametrize("step", ["hang", "hang later"])
async def test_who_leaves_closes_the_engine(bench: Bench, step: str) -> None:
    bench.engines["a"].script = [step]
    reader = asyncio.create_task(bench.ask())
    await asyncio.sleep(0.01)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    assert bench.engines["a"].open_runs == 0
    assert bench.attempts == 1


async def test_while_another_stands_in_the_sleeper_is_woken(bench: Bench) -> None:
    assert answered(await bench.ask("b", wakes="a")) == "b"
    assert bench.woken == ["a"]
    assert bench.engines["a"].runs == 0


async def test_nobody_is_woken_without_need(bench: Bench) -> None:
    bench.health = {"a": "ready", "b": "waking", "c": "waking"}
    await bench.ask()
    assert bench.woken == []
