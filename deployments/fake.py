"""A scripted engine for tests and for measuring what the service itself costs. It is in no shipped profile."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field

from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, EngineFailed
from serve_app.types import Delta, Done, Event, Job, Kind, Payload, Usage

CRASH_STATUS = 70


class Scripted(Engine):
    """Says the same pieces to everybody, at a given pace, and breaks where it is told to. A piece is one token.

    The counters tell tests what happened to the runs: each one that started is finished, failed or cancelled.
    """

    class Options(EngineOptions):
        tokens: tuple[str, ...] | int = ("Hello", ", ", "world", ".")
        """The pieces to say, or how many to make up."""
        echo: bool = False
        """Say the words of the last user message instead."""
        first_delay_s: float = Field(default=0.0, ge=0)
        delay_s: float = Field(default=0.0, ge=0)
        """Wait before every piece but the first."""
        load_s: float = Field(default=0.0, ge=0)
        fail_load: bool = False
        fail_at: int | None = Field(default=None, ge=0)
        """Raise EngineFailed before this piece, counted from 0."""
        crash_at: int | None = Field(default=None, ge=0)
        """End the whole process before this piece."""

    options: Options
    kinds = frozenset({Kind.CHAT, Kind.COMPLETION})
    started = 0
    finished = 0
    failed = 0
    cancelled = 0

    @property
    def active(self) -> int:
        return self.started - self.finished - self.failed - self.cancelled

    async def load(self) -> None:
        await asyncio.sleep(self.options.load_s)
        if self.options.fail_load:
            raise RuntimeError("fail_load is set")

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self._refuse_unusable(job.payload)
        self.started += 1
        try:
            async with aclosing(self._say(job.payload)) as events:
                async for event in events:
                    yield event
            self.finished += 1
        except EngineFailed:
            self.failed += 1
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def _say(self, payload: Payload) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        pieces = self._pieces(payload)
        limit = payload.sampling.max_tokens or len(pieces)
        for at, piece in enumerate(pieces[:limit]):
            await self._pause(at)
            for index in range(payload.sampling.n):
                yield Delta(piece, index)
        n, said = payload.sampling.n, min(limit, len(pieces))
        usage = Usage(_words(payload), said * n, engine_s=time.perf_counter() - started)
        yield Done(usage, ("length" if limit < len(pieces) else "stop",) * n)

    async def _pause(self, at: int) -> None:
        if at == self.options.crash_at:
            os._exit(CRASH_STATUS)
        if at == self.options.fail_at:
            raise EngineFailed("The scripted engine broke where it was told to.")
        if delay_s := self.options.delay_s if at else self.options.first_delay_s:
            await asyncio.sleep(delay_s)

    def _pieces(self, payload: Payload) -> tuple[str, ...]:
        if self.options.echo:
            return tuple(piece + " " for piece in payload.text.split())
        tokens = self.options.tokens
        return tuple(f"{at} " for at in range(tokens)) if isinstance(tokens, int) else tokens

    def _refuse_unusable(self, payload: Payload) -> None:
        if not payload.text.strip():
            raise BadRequest("There is nothing to answer; send some text.")
        if payload.sampling.max_tokens is not None and payload.sampling.max_tokens < 1:
            raise BadRequest("max_tokens must be at least 1.", param="max_tokens")
        if payload.sampling.n < 1:
            raise BadRequest("n must be at least 1.", param="n")


def _words(payload: Payload) -> int:
    """A stand-in for a tokenizer: words of the whole prompt."""
    return sum(len(text.split()) for text in payload.texts)
