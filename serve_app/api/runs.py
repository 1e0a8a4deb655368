"""Reading what a run yields: in order, never far ahead, and only as long as somebody listens."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from starlette.types import Receive

from serve_app.errors import EngineFailed
from serve_app.types import Delta, Done, Event, Handler, Job

AHEAD = 64  # events: enough to share a send when the socket is slow, too few to matter in memory


async def in_turn(run: Handler, jobs: Sequence[Job]) -> AsyncGenerator[Event]:
    """The jobs as one run with all their choices, `Done` last, or an error.

    One after the other: a list of prompts holds one slot, not many. Each run is read to its own end, so that the
    stages have settled whatever they settle before a caller hears that it is over.
    """
    whole = Done(finish=())
    for job in jobs:
        done: Done | None = None
        async with aclosing(run(job)) as events:
            async for event in events:
                if isinstance(event, Done):
                    done = event
                elif job is jobs[0]:
                    yield event
                elif isinstance(event, Delta):
                    yield replace(event, index=event.index + len(whole.finish))
        if done is None:
            raise unfinished()
        whole = Done(whole.usage + done.usage, whole.finish + done.finish, whole.estimated or done.estimated)
    yield whole


class Feed:
    """A run that is read by a task of its own, so that its consumer can do something else while nothing comes."""

    def __init__(self, run: AsyncGenerator[Event], ahead: int = AHEAD) -> None:
        self._run = run
        self._room = asyncio.Semaphore(ahead)
        self._events: deque[Event] = deque()
        self._stirred = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._stirred.set())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])
        if not self._reader.cancelled():
            self._reader.exception()  # the consumer has met it, or is gone

    async def take(self) -> list[Event]:
        """What came since the last call: at least one event, or none at the end. Raises what the run raised."""
        while not self._events and not self._reader.done():
            self._stirred.clear()
            await self._stirred.wait()
        if not self._events and self._reader.cancelled():
            raise unfinished()
        if not self._events:
            self._reader.result()
        taken = list(self._events)
        self._events.clear()
        for _ in taken:
            self._room.release()
        return taken

    async def _read(self) -> None:
        async with aclosing(self._run) as events:
            async for event in events:
                await self._room.acquire()
                self._events.append(event)
                self._stirred.set()


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do `work`, but drop it as soon as the client has left."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        dropped = not task.done()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait([task, gone])
    if dropped:
        return
    if task.cancelled():  # not by us: something that the run waited for was
        raise unfinished()
    task.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def unfinished() -> EngineFailed:
    return EngineFailed("The engine stopped before its answer was complete. Please try again.")
