"""How a run's events are put together before they leave the engine's process."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable

import pytest

from serve_app.batches import READ_AHEAD, in_batches
from serve_app.errors import EngineFailed, QueueFull
from serve_app.lines import Batch
from serve_app.types import Delta, Done, Event, ToolDelta

LONG_S = 30.0
"""A pace at which nothing would come in time by itself."""


async def said(*items: Event | float | Exception) -> AsyncGenerator[Event]:
    """A run: events, pauses in seconds, and what it raises."""
    for item in items:
        if isinstance(item, Exception):
            raise item
        if isinstance(item, float):
            await asyncio.sleep(item)
        else:
            yield item


async def batches(run: AsyncGenerator[Event], pace_s: float) -> list[Batch]:
    async with asyncio.timeout(LONG_S / 3):
        return [batch async for batch in in_batches(run, pace_s)]


def texts(found: Iterable[Batch]) -> list[str]:
    return ["".join(item.text for item in batch if isinstance(item, Delta)) for batch in found]


def letters(text: str, pause_s: float = 0.0) -> list[Event | float]:
    return [part for letter in text for part in (Delta(letter, tokens=1), pause_s)]


async def test_the_first_goes_at_once_and_the_last_waits_for_nothing() -> None:
    found = await batches(said(*letters("abcdef", 0.001), Done()), LONG_S)
    assert texts(found) == ["a", "bcdef"]
    assert isinstance(found[-1][-1], Done)


async def test_neighbours_are_one_piece_with_all_their_tokens() -> None:
    other, call = Delta("x", index=1, tokens=2), ToolDelta('{"a"', 0, 0, "id", "name", 3)
    more = ToolDelta(": 1}", 0, 0, tokens=4)
    found = await batches(said(Delta("first"), 0.001, *letters("bc"), other, call, more, Done()), LONG_S)
    assert found[1] == [Delta("bc", tokens=2), other, ToolDelta('{"a": 1}', 0, 0, "id", "name", 7), Done()]


async def test_a_pace_is_kept() -> None:
    started = time.perf_counter()
    found = await batches(said(*letters("a" * 40, 0.005), Done()), 0.05)
    assert 3 <= len(found) <= (time.perf_counter() - started) / 0.05 + 2  # the first and the last wait for nothing
    assert "".join(texts(found)) == "a" * 40


async def test_a_slow_engine_is_not_held_up() -> None:
    assert texts(await batches(said(*letters("abc", 0.05), Done()), 0.001)) == ["a", "b", "c", ""]


async def test_an_engine_is_not_ahead_for_ever_but_is_not_held_to_the_pace() -> None:
    found = await batches(said(*letters("a" * (3 * READ_AHEAD)), Done()), LONG_S)
    assert sum(map(len, texts(found))) == 3 * READ_AHEAD
    assert max(map(len, texts(found))) <= READ_AHEAD


@pytest.mark.parametrize("before", [[], letters("abc")])
async def test_an_error_is_the_last_item(before: list[Event | float]) -> None:
    found = await batches(said(*before, QueueFull("no room")), LONG_S)
    assert isinstance(found[-1][-1], QueueFull)
    assert "".join(texts(found)) == "abc"[: 3 * bool(before)]


async def test_what_an_engine_raises_is_told_without_what_it_says() -> None:
    found = await batches(said(*letters("abc"), RuntimeError("secret")), LONG_S)
    assert isinstance(found[-1][-1], EngineFailed)
    assert "secret" not in str(found[-1][-1])


async def test_a_run_that_stops_without_its_end_has_failed() -> None:
    found = await batches(said(*letters("abc")), LONG_S)
    assert isinstance(found[-1][-1], EngineFailed)


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_leaving_closes_the_run(taken: int) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Event]:
        with contextlib.ExitStack() as stack:
            stack.callback(closed.set)
            while True:
                yield Delta("a")
                await asyncio.sleep(0.001)

    async with asyncio.timeout(LONG_S / 3):
        run = in_batches(endless(), 0.01)
        for _ in range(taken):
            await anext(run)
        reading = asyncio.ensure_future(anext(run))
        await asyncio.sleep(0.003)
        reading.cancel()
        await asyncio.wait([reading])
        await run.aclose()
        await closed.wait()
