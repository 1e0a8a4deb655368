"""A run's events in batches, at a pace that readers can follow.

The first event goes at once, and so does the last. In between, whatever has come is handed on together, at most 40
times a second: who reads along sees no more than that, and what a batch costs on its way, mostly to wake up process
after process, is paid once for all of its events. An engine that speaks more slowly is not held up.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from serve_app import logs
from serve_app.errors import EngineFailed, MegaCityError
from serve_app.lines import Batch
from serve_app.types import Delta, Done, Event, ToolDelta

PACE_S = 0.025
READ_AHEAD = 1024  # events that an engine may be ahead of its reader


async def in_batches(events: AsyncGenerator[Event], pace_s: float = PACE_S) -> AsyncGenerator[Batch]:
    """The events, with neighbouring pieces of one text joined; the last batch ends with a `Done` or an error."""
    pile = _Pile()
    pump = asyncio.create_task(_pump(events, pile))
    try:
        while not pile.over:
            yield joined(await pile.take())
            await pile.rest(pace_s)
    finally:
        pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pump


class _Pile:
    """What a run has said and nobody has taken yet."""

    def __init__(self) -> None:
        self.over = False
        self._batch: Batch = []
        self._any, self._due, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()

    async def put(self, item: Event | MegaCityError) -> None:
        await self._room.wait()
        self._batch.append(item)
        self._any.set()
        full = len(self._batch) >= READ_AHEAD
        if full:
            self._room.clear()
        if full or isinstance(item, Done | MegaCityError):
            self._due.set()

    async def take(self) -> Batch:
        """All of it, as soon as there is any."""
        await self._any.wait()
        batch, self._batch = self._batch, []
        self._any.clear()
        self._due.clear()
        self._room.set()
        self.over = isinstance(batch[-1], Done | MegaCityError)
        return batch

    async def rest(self, pace_s: float) -> None:
        """Wait for so long, or until the end has come, or as much as is taken in."""
        if self.over or not pace_s:
            return
        timer = asyncio.get_running_loop().call_later(pace_s, self._due.set)
        try:
            await self._due.wait()
        finally:
            timer.cancel()


async def _pump(events: AsyncGenerator[Event], pile: _Pile) -> None:
    done = False
    try:
        async with contextlib.aclosing(events) as source:
            async for event in source:
                await pile.put(event)
                done = isinstance(event, Done)
        if not done:
            await pile.put(EngineFailed("the engine stopped before its answer was complete; try again"))
    except MegaCityError as error:
        await pile.put(error)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises must reach the caller as an honest error
        logs.fault("engine_failed", error)
        await pile.put(EngineFailed("the engine failed while answering; try again, or choose another model"))


def joined(batch: Batch) -> Batch:
    """The batch with neighbouring deltas of one choice made into one, and so those of one call."""
    out: Batch = []
    for item in batch:
        last = out[-1] if out else None
        if isinstance(item, Delta) and isinstance(last, Delta) and last.index == item.index:
            out[-1] = Delta(last.text + item.text, item.index, last.tokens + item.tokens)
        elif isinstance(item, ToolDelta) and isinstance(last, ToolDelta) and _same_call(last, item):
            out[-1] = replace(last, arguments=last.arguments + item.arguments, tokens=last.tokens + item.tokens)
        else:
            out.append(item)
    return out


def _same_call(last: ToolDelta, item: ToolDelta) -> bool:
    return (last.index, last.number) == (item.index, item.number) and not item.id
