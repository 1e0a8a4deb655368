"""The bridge from worker threads to the event loop."""

import asyncio
from collections import deque


class Feed:
    """Tokens on their way from workers to the one reader, `(choice, token)` each.

    The loop is woken only if it is not awake already: tokens that arrive meanwhile are read together.
    """

    __slots__ = ("_awake", "_items", "_loop", "_ready", "closed")

    def __init__(self) -> None:
        self.closed: set[int] = set()
        """Choices of which no more is wanted; their workers stop at the next token."""
        self._items: deque[tuple[int, int]] = deque()
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._awake = False

    def wanted(self, choice: int) -> bool:
        return choice not in self.closed and not self._loop.is_closed()

    def put(self, choice: int, token: int) -> None:
        self._items.append((choice, token))
        self.wake()

    def wake(self) -> None:
        if self._awake or self._loop.is_closed():
            return
        self._awake = True
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # closed since we asked: there is nobody left to wake
            return

    async def wait(self) -> None:
        """Return when there may be something to take."""
        await self._ready.wait()
        self._ready.clear()
        self._awake = False  # before taking, so that whoever puts later wakes the loop again

    def take(self) -> list[tuple[int, int]]:
        taken = []
        while self._items:
            taken.append(self._items.popleft())
        return taken
