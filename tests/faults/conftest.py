"""A service to break, and a load whose every outcome is written down."""

import asyncio
import contextlib
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.cluster.conftest import Service, Start, eventually, start

__all__ = ["start"]

WORDS = "".join(f"{at} " for at in range(20))


@pytest.fixture(scope="module")
def service(start: Start) -> Service:
    return start(Path(__file__).parent / "faults.yaml")


def processes(service: Service, name: str) -> list[psutil.Process]:
    """The service's processes of that name, such as `ServeReplica:megacity:steady`."""
    family = psutil.Process(service.process.pid).children(recursive=True)
    return [process for process in family if name in " ".join(process.cmdline())]


@dataclass
class History:
    """What became of every request, as its client saw it."""

    endings: Counter[str] = field(default_factory=Counter)
    models: list[tuple[float, str]] = field(default_factory=list)
    """When a request was sent, and which version of the model answered it."""
    strange: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    tokens: int = 0
    """What all clients received, in the engine's tokens: words."""

    def note(self, ending: str, started: float, detail: str = "", model: str = "", text: str = "") -> None:
        self.endings[ending] += 1
        self.tokens += len(text.split())
        self.models.append((started, model))
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        if detail:
            self.strange.append(f"{ending}: {detail[:300]}")


async def load(url: str, workers: int, until: asyncio.Event, stream_share: float = 0.5) -> History:
    """`workers` clients that ask one request after another until told to stop."""
    history = History()

    async def worker() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while not until.is_set():
                ask = _stream if random.random() < stream_share else _unary
                await ask(client, history)

    await asyncio.gather(*(worker() for _ in range(workers)))
    return history


async def under_load(url: str, faults: Callable[[], Awaitable[Any]], workers: int = 12) -> History:
    """The history of a load during which `faults` ran."""
    over = asyncio.Event()
    running = asyncio.create_task(load(url, workers, over))
    try:
        await asyncio.sleep(1.0)
        await faults()
        await asyncio.sleep(1.0)
    finally:
        over.set()
    return await running


def ledger(service: Service, since_ms: int = 0) -> list[tuple[str, str, int]]:
    """State, outcome and completion tokens of every run that began since then."""
    rows = "SELECT state, outcome, completion_tokens FROM ledger WHERE created_ms >= ?"
    with contextlib.closing(sqlite3.connect(f"file:{service.home}/megacity.db?mode=ro", uri=True)) as database:
        return database.execute(rows, [since_ms]).fetchall()


def nothing_is_held(service: Service, within_s: float = 5.0) -> bool:
    """Whether every reservation ends."""
    return eventually(lambda: all(state != "reserved" for state, _, _ in ledger(service)), within_s)


def check_ledger(service: Service, history: History) -> None:
    """It has one settled row for every request, and every token that a client received and no other."""
    assert nothing_is_held(service)
    rows = ledger(service, history.began_ms)
    told = history.endings["stream told honestly"]
    assert [state for state, _, _ in rows] == ["settled"] * history.endings.total()
    assert sum(outcome != "ok" for _, outcome, _ in rows) == told
    assert sum(tokens for _, _, tokens in rows) == history.tokens


def body(stream: bool) -> dict[str, Any]:
    return {"model": "steady-1", "messages": [{"role": "user", "content": "go"}], "stream": stream}


async def _unary(client: httpx.AsyncClient, history: History) -> None:
    started = time.monotonic()
    try:
        response = await client.post("/v1/chat/completions", json=body(False))
    except httpx.TransportError as error:
        return history.note("unary cut", started, repr(error))
    if response.status_code != 200:
        return history.note(f"unary {response.status_code}", started, response.text)
    text, model = response.json()["choices"][0]["message"]["content"], response.headers["x-megacity-model"]
    return history.note(
        "unary ok" if text == WORDS else "unary wrong", started, "" if text == WORDS else text, model, text
    )


async def _stream(client: httpx.AsyncClient, history: History) -> None:
    started = time.monotonic()
    lines: list[str] = []
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body(True)) as response:
            status, model = response.status_code, response.headers.get("x-megacity-model", "")
            async for line in response.aiter_lines():
                lines.append(line)
    except httpx.TransportError as error:
        return history.note("stream cut", started, repr(error))
    if status != 200:
        return history.note(f"stream {status}", started, "".join(lines))
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))
    return history.note(*_ending(chunks, text, started), model, text)


def _ending(chunks: list[dict[str, Any]], text: str, started: float) -> tuple[str, float, str]:
    finished = any(c["choices"][0]["finish_reason"] for c in chunks if c.get("choices"))
    told = any("error" in chunk for chunk in chunks)
    if finished and text == WORDS and not told:
        return "stream ok", started, ""
    if told and not finished and WORDS.startswith(text):
        return "stream told honestly", started, ""
    return "stream wrong", started, f"{text} finished={finished} told={told}"
