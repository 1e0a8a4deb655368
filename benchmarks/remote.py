"""What a remote engine costs on top of its upstream: `python -m benchmarks.remote [--service]`.

One upstream (`benchmarks/upstream.py`, 50 tokens at once or one every 5 ms) is asked in turn by (a) a bare socket that
looks for the last event and for nothing else, (b) httpx, as a caller would who reads every chunk, (c) the engine class
in this process and, with `--service`, (d) the bare socket through the whole service. One connection each, one request
after the other, ways taking turns, so that the differences hold on a machine that drifts. Milliseconds.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import free_ports
from benchmarks.overhead import described, megacity
from deployments.remote import Remote
from serve_app.types import Chat, Delta, Done, Job, Kind, Message, Sampling

RESULTS = Path(__file__).parent / "results"
MODELS = {"at once": "fake-0ms", "5 ms a token": "fake-5ms"}
WARM_UP = 10
Timing = tuple[float, float]
"""Milliseconds to the first token and to the end."""
Way = Callable[[], Awaitable[Timing]]


def main() -> None:
    options = _arguments()
    result = asyncio.run(_measured(options))
    _print(result["cells"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "remote.json").write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="of each way, when tokens come at once")
    parser.add_argument("--service", action="store_true", help="also through the whole service")
    return parser.parse_args()


async def _measured(options: argparse.Namespace) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    async with _upstream() as port, AsyncExitStack() as stack:
        service = _service(stack, port) if options.service else None
        for name, model in MODELS.items():
            requests = options.requests if model == "fake-0ms" else max(20, options.requests // 10)
            cells[name] = await _cell(model, port, service, requests)
    command = "benchmarks.remote" + (" --service" if options.service else "")
    return {**described(f"{command} --requests {options.requests}"), "cells": cells}


@contextlib.asynccontextmanager
async def _upstream() -> AsyncIterator[int]:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.upstream", str(port))
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


def _service(stack: AsyncExitStack, upstream: int) -> int:
    """The port of a service whose only engines are remote ones."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    engines = {
        model: {
            "engine": "deployments.remote:Remote",
            "options": {"base_url": f"http://127.0.0.1:{upstream}/v1", "model": model},
            "slots": 8,
            "models": {model: {}},
        }
        for model in MODELS.values()
    }
    routing = {"order": ["model", "default"], "default": "fake-0ms"}
    args = {
        "access": {"anonymous": True},
        "cache": {"enabled": False},
        "engines": engines,
        "routing": routing,
        "templates": {},
    }
    application = {"name": "megacity", "route_prefix": None, "import_path": "serve_app.app:build", "args": args}
    profile = folder / "remote.yaml"  # JSON is YAML
    profile.write_text(json.dumps({"proxy_location": "Disabled", "applications": [application]}))
    started = stack.enter_context(contextlib.ExitStack())
    return megacity(started, folder, "service", {}, profile, tuple(MODELS.values())).port


async def _cell(model: str, upstream: int, service: int | None, requests: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        ways: dict[str, Way] = {"direct": await _socket(stack, upstream, model)}
        ways["httpx"] = await _httpx(stack, upstream, model)
        ways["engine"] = await _engine(stack, upstream, model)
        if service:
            ways["service"] = await _socket(stack, service, model)
        times = await _in_turn(ways, requests)
    return {name: _row(found, times["direct"]) for name, found in times.items()}


async def _in_turn(ways: dict[str, Way], requests: int) -> dict[str, list[Timing]]:
    times: dict[str, list[Timing]] = {name: [] for name in ways}
    for at in range(WARM_UP + requests):
        for name, way in ways.items():
            found = await way()
            if at >= WARM_UP:
                times[name].append(found)
    return times


def _row(found: list[Timing], direct: list[Timing]) -> dict[str, float]:
    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "ttft_p50": median([first for first, _ in found]),
        "p50": median([end for _, end in found]),
        "added_ttft_p50": median([mine[0] - theirs[0] for mine, theirs in zip(found, direct, strict=True)]),
        "added_p50": median([mine[1] - theirs[1] for mine, theirs in zip(found, direct, strict=True)]),
        "added_p99": round(_p99(found) - _p99(direct), 3),
        "ratio": median([mine[1] / theirs[1] for mine, theirs in zip(found, direct, strict=True)]),
    }


def _p99(found: list[Timing]) -> float:
    ends = sorted(end for _, end in found)
    return ends[min(len(ends) - 1, int(len(ends) * 0.99))]


def _body(model: str) -> bytes:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(body).encode()


async def _socket(stack: AsyncExitStack, port: int, model: str) -> Way:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    body = _body(model)
    lines = ["POST /v1/chat/completions HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
    request = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body

    async def ask() -> Timing:
        started, first, came = time.perf_counter(), 0.0, b""
        writer.write(request)
        while not came.endswith(b"0\r\n\r\n"):
            came += await reader.read(1 << 16)
            if not first and b'"content":' in came:
                first = time.perf_counter()
        return _ms(started, first)

    return ask


async def _httpx(stack: AsyncExitStack, port: int, model: str) -> Way:
    client = await stack.enter_async_context(httpx.AsyncClient())
    url, body = f"http://127.0.0.1:{port}/v1/chat/completions", _body(model)

    async def ask() -> Timing:
        started, first = time.perf_counter(), 0.0
        async with client.stream("POST", url, content=body) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    json.loads(line[6:])
                    first = first or time.perf_counter()
        return _ms(started, first)

    return ask


async def _engine(stack: AsyncExitStack, port: int, model: str) -> Way:
    engine = Remote(Remote.Options(base_url=f"http://127.0.0.1:{port}/v1", model=model))
    await engine.load()
    stack.push_async_callback(engine.close)
    job = Job("job", Kind.CHAT, Chat((Message("user", "hi"),), Sampling(max_tokens=100)))

    async def ask() -> Timing:
        started, first, tokens = time.perf_counter(), 0.0, 0
        async for event in engine.run(job):
            if isinstance(event, Delta):
                first = first or time.perf_counter()
                tokens += event.tokens
            elif isinstance(event, Done):
                assert tokens == 50
        return _ms(started, first)

    return ask


def _ms(started: float, first: float) -> Timing:
    return (first - started) * 1000, (time.perf_counter() - started) * 1000


def _print(cells: dict[str, Any]) -> None:
    print("| tokens | way | TTFT p50 | p50 | added TTFT p50 | added p50 | added p99 | × direct |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for cell, rows in cells.items():
        for name, row in rows.items():
            print(f"| {cell} | {name} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")


if __name__ == "__main__":
    main()
