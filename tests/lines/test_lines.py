"""Lines between two sides in one process; the Serve call that leases them is a plain generator here."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextvars import ContextVar

import pytest

from serve_app import lines
from serve_app.errors import BadRequest
from serve_app.lines import Batch, Lines, Listener
from serve_app.types import Chat, Delta, Done, Job, Kind, Message


class Engine:
    """Answers with the prompt's words, a batch each; `hold` never ends, `bad` is refused."""

    def __init__(self) -> None:
        self.calls = 0
        self.given_back = 0
        self.cancelled = asyncio.Event()
        self.listener = Listener(self.run)

    async def run(self, job: Job) -> AsyncGenerator[Batch]:
        for word in job.payload.text.split():
            if word == "bad":
                yield [BadRequest("no")]
                return
            yield [Delta(word)]
            if word == "hold":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.set()
        yield [Done()]

    def call(self, job: Job, node: str) -> "Call":
        self.calls += 1
        return Call(self, self.listener.lease() if node == "here" else self.run(job))


class Call:
    """What Serve gives: an iterator over what a generator elsewhere yields, which runs on by itself."""

    def __init__(self, engine: Engine, source: AsyncGenerator) -> None:
        self.engine = engine
        self.items: asyncio.Queue = asyncio.Queue()
        self.task = asyncio.create_task(self._drive(source))

    async def _drive(self, source: AsyncGenerator) -> None:
        try:
            async for item in source:
                self.items.put_nowait(item)
        finally:
            await source.aclose()
            self.engine.given_back += 1
            self.items.put_nowait(None)

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> object:
        item = await self.items.get()
        if item is None:
            raise StopAsyncIteration
        return item

    def cancel(self) -> None:
        self.task.cancel()


@pytest.fixture
async def engine() -> AsyncGenerator[Engine]:
    engine = Engine()
    await engine.listener.open()
    yield engine
    engine.listener.close()


async def no_files(job: Job) -> AsyncGenerator[Batch]:
    raise AssertionError("no job here has files")
    yield []


def job(text: str) -> Job:
    return Job("j", Kind.CHAT, Chat((Message("user", text),)))


async def said(way: Lines, text: str) -> list:
    return [item async for batch in way.run(job(text)) for item in batch]


async def test_one_lease_serves_many_jobs(engine: Engine) -> None:
    way = Lines(engine.call, "here", no_files)
    for _ in range(3):
        assert await said(way, "a b") == [Delta("a"), Delta("b"), Done()]
    assert (engine.calls, engine.given_back) == (1, 0)


async def test_jobs_at_a_time_have_a_lease_each(engine: Engine) -> None:
    way = Lines(engine.call, "here", no_files)
    await asyncio.gather(*(said(way, "a b c") for _ in range(5)))
    assert engine.calls == 5


async def test_a_lease_belongs_to_no_request(engine: Engine) -> None:
    """Serve would cancel it with the request in whose context it was asked for, and others with it."""
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    def call(job: Job, node: str) -> Call:
        seen.append(request.get())
        return engine.call(job, node)

    request.set("mine")
    await said(Lines(call, "here", no_files), "a")
    assert seen == ["none"]


async def test_an_error_ends_a_job_and_not_its_line(engine: Engine) -> None:
    way = Lines(engine.call, "here", no_files)
    assert [type(item) for item in await said(way, "bad")] == [BadRequest]
    assert len(await said(way, "a")) == 2
    assert engine.calls == 1


async def test_an_idle_lease_is_given_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "IDLE_S", 0.05)
    way = Lines(engine.call, "here", no_files)
    await said(way, "a")
    await asyncio.sleep(0.3)
    assert engine.given_back == 1
    assert len(await said(way, "a")) == 2


async def test_an_old_lease_is_not_used_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "OLDEST_S", 0.0)
    way = Lines(engine.call, "here", no_files)
    await said(way, "a")
    await said(way, "a")
    assert engine.calls == 2


async def test_closing_cancels_the_run_and_ends_the_lease(engine: Engine) -> None:
    way = Lines(engine.call, "here", no_files)
    run = way.run(job("hold"))
    assert await anext(run) == [Delta("hold")]
    await run.aclose()
    await asyncio.wait_for(engine.cancelled.wait(), 2)
    await asyncio.sleep(0.05)
    assert engine.given_back == 1


async def test_losing_the_engine_is_an_error(engine: Engine) -> None:
    calls: list[Call] = []
    way = Lines(lambda j, n: calls.append(engine.call(j, n)) or calls[-1], "here", no_files)
    run = way.run(job("hold"))
    await anext(run)
    calls[0].cancel()  # as Serve does with what a lost replica held
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(anext(run), 2)


async def test_other_nodes_get_batches_over_the_handle(engine: Engine) -> None:
    way = Lines(engine.call, "there", no_files)
    assert await said(way, "a b") == [Delta("a"), Delta("b"), Done()]
    assert engine.calls == 1
    await said(way, "a")
    assert engine.calls == 2


async def test_a_stranger_without_a_token_is_turned_away(engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.setblocking(False)
        stranger.connect(engine.listener._address)
        await loop.sock_sendall(stranger, lines.SIZE.pack(32) + b"x" * 32)
        assert await asyncio.wait_for(loop.sock_recv(stranger, 1), 2) == b""


async def test_a_slow_reader_slows_the_engine_down(engine: Engine) -> None:
    way = Lines(engine.call, "here", no_files)
    run = way.run(job("word " * 20_000))
    count = 0
    async for _ in run:
        count += 1
        if count == 1:
            await asyncio.sleep(0.2)
    assert count == 20_001
