"""Dynamic batching: what piles up while a batch is on its way becomes the next one. Nothing ever waits for company."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Result = TypeVar("Result")
Tokens = list[int]


class _Run(Generic[Result]):
    """The texts of one caller. `answer` is done when all have a result, or as soon as one of them failed."""

    def __init__(self, texts: Sequence[Tokens], answer: "asyncio.Future[list[Result]]") -> None:
        self.texts = texts
        self.answer = answer
        self.next = 0
        self.missing = len(texts)
        self.results: list[Result | None] = [None] * len(texts)

    @property
    def over(self) -> bool:
        """Nothing is left to take: all is taken, or nobody waits any more."""
        return self.next >= len(self.texts) or self.answer.done()

    def put(self, at: int, result: Result) -> None:
        self.results[at] = result
        self.missing -= 1
        if not self.missing and not self.answer.done():
            self.answer.set_result([result for result in self.results if result is not None])


class Batches(Generic[Result]):
    """Runs `encode` on batches of at most `most` tokens together, `workers` at a time.

    Callers take turns, one text each, so that a caller with a thousand texts does not hold up one with a single text.
    A caller that is cancelled leaves: texts of it that no batch has taken yet are not encoded.
    """

    def __init__(
        self, encode: Callable[[Sequence[Tokens]], Awaitable[Sequence[Result]]], workers: int, most: int
    ) -> None:
        self._encode = encode
        self._most = most
        self._runs: deque[_Run[Result]] = deque()
        self._stirred = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]
        self.sizes: deque[int] = deque(maxlen=1024)
        """How many texts the last batches had."""

    async def run(self, texts: Sequence[Tokens]) -> list[Result]:
        """One result per text, in order. Raises what `encode` raised for a batch with one of them."""
        run = _Run(texts, asyncio.get_running_loop().create_future())
        async with self._stirred:
            self._runs.append(run)
            self._stirred.notify()
        return await run.answer

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in self._runs:
            run.answer.cancel()

    async def _work(self) -> None:
        while True:
            async with self._stirred:
                await self._stirred.wait_for(lambda: self._runs)
                taken = self._take()
                if self._runs:
                    self._stirred.notify()
            if taken:
                await self._answer(taken)

    def _take(self) -> list[tuple[_Run[Result], int]]:
        taken: list[tuple[_Run[Result], int]] = []
        room = self._most
        while self._runs:
            run = self._runs.popleft()
            if run.over:
                continue
            size = len(run.texts[run.next])
            if taken and size > room:
                self._runs.appendleft(run)
                break
            taken.append((run, run.next))
            room -= size
            run.next += 1
            self._runs.append(run)
        return taken

    async def _answer(self, taken: list[tuple[_Run[Result], int]]) -> None:
        self.sizes.append(len(taken))
        try:
            results = await self._encode([run.texts[at] for run, at in taken])
        except Exception as error:  # noqa: BLE001 - whatever broke the batch belongs to those who are in it
            for run, _ in taken:
                if not run.answer.done():
                    run.answer.set_exception(error)
            return
        for (run, at), result in zip(taken, results, strict=True):
            run.put(at, result)
