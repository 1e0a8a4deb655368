"""How long an upstream is waited for: each phase of an answer has its own patience.

One timer is set for a whole answer, where `asyncio.timeout` would set and clear one for each of its chunks.
"""

import asyncio
from collections.abc import AsyncIterator

LAST_S = 2.0
"""How long the usage is waited for when the answer itself is over."""
CLOSING_S = 0.05
"""How long the end of the stream is waited for after its last event, so that the connection can be used again."""


class Patience:
    """Of one answer; all times are those of the event loop. Only waiting for the upstream counts between tokens."""

    def __init__(self, first_s: float, between_s: float, total_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time() + total_s
        self.first = min(self._loop.time() + first_s, self._last)
        self._between_s = between_s
        self._left_s: float | None = None  # of the present phase; None before the first token
        self._until = self.first
        self._task: asyncio.Task[object] | None = None
        self._expired = False
        self._timer = self._loop.call_at(self.first, self._look)

    def begun(self) -> None:
        """A token has come."""
        if self._left_s is None:  # the timer waits for the first one, which may take much longer
            self._set(min(self._loop.time() + self._between_s, self._last))
        self._left_s = self._between_s

    def over(self, closing: bool) -> None:
        """The answer is whole; with `closing` there is nothing more that anybody wants to know."""
        self._left_s = min(self._between_s, CLOSING_S if closing else LAST_S)
        self._set(min(self._loop.time() + self._left_s, self._last))

    async def next(self, chunks: AsyncIterator[bytes]) -> bytes:
        """The next chunk, empty at the end. Raises `TimeoutError`."""
        started = self._loop.time()
        self._until = self.first if self._left_s is None else min(started + self._left_s, self._last)
        task = self._task = asyncio.current_task()
        assert task
        asked_to_stop = task.cancelling()
        try:
            if started >= self._until:
                raise TimeoutError
            chunk = await anext(chunks, b"")
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= asked_to_stop:
                raise TimeoutError from None
            raise
        finally:
            self._task = None
        if self._left_s is not None:
            self._left_s -= self._loop.time() - started
        return chunk

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        """Interrupt whoever has waited for too long, or look again when that could be."""
        now = self._loop.time()
        if self._task and now >= self._until:
            self._expired = True
            self._task.cancel()
        else:
            self._set(self._until if self._task else now + (self._left_s or self._between_s))

    def _set(self, when: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)
