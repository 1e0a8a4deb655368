"""What the service costs on top of its engine, and how soon it answers.

`python -m benchmarks.service` starts the embedded profile on ports of its own, measures the time from the command to
the first answered request and every process's memory, then the tokens per second of the same requests sent (a) to
the engine class in this process and (b) through the whole service as streams, in turn, at 1 and at 8 streams.
Figures are medians over rounds; the ratios are between neighbours in time, so they hold on a machine that drifts.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import free_ports
from deployments.llm import CTranslate2
from serve_app.config import EngineEntry, load_profile
from serve_app.types import Chat, Done, Job, Kind, Message, Sampling

QUESTIONS = [f"{a} × {b} = ?" for a in (47, 68, 73, 89) for b in (36, 52, 74, 95)]
RESULTS = Path(__file__).parent / "results"
Ask = Callable[[str], Awaitable[int]]


def main() -> None:
    options = _arguments()
    profile = load_profile("embedded")
    with _service() as (url, first_answer_s):
        memory = _memory(url)
        rates = asyncio.run(_compare(url, profile.settings.engines["tutor"], options.rounds))
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "start": {"first_answer_s": round(first_answer_s, 1)},
        "memory_mb": memory,
        "tokens_per_s": rates,
    }
    _print(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "service.json").write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


@contextlib.contextmanager
def _service() -> Iterator[tuple[str, float]]:
    """A service on free ports; yields its URL and the seconds from the command to the first answer."""
    http, grpc = free_ports(2)
    url = f"http://127.0.0.1:{http}"
    started = time.perf_counter()
    command = [sys.executable, "-m", "serve_app.cli", "up", "--port", str(http), "--grpc-port", str(grpc)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not _answers(url):
            if process.poll() is not None:
                raise RuntimeError("the service did not start")
            time.sleep(0.05)
        yield url, time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.post(f"{url}/v1/chat/completions", json=_body("1 + 2 = ?"), timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def _body(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "nano-tutor", "messages": [{"role": "user", "content": question}], "max_tokens": 300, **more}


def _memory(url: str) -> dict[str, float]:
    command = [sys.executable, "-m", "serve_app.cli", "status", "--url", url, "--json"]
    state = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {f"{number} {p['name']}": p["pss_mb"] for number, p in enumerate(state["processes"], 1)}


async def _compare(url: str, entry: EngineEntry, rounds: int) -> dict[str, dict[str, float]]:
    engine = CTranslate2(entry.engine_options(), slots=entry.slots)
    await engine.load()
    slots = asyncio.Semaphore(entry.slots)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        ways: dict[str, Ask] = {
            "engine": lambda question: _direct(engine, slots, question),
            "service": lambda question: _streamed(client, question),
        }
        rates = {f"{n} streams": await _rates(ways, n, rounds) for n in (1, 8)}
    await engine.close()
    return rates


async def _rates(ways: dict[str, Ask], streams: int, rounds: int) -> dict[str, float]:
    """Medians of tokens per second for each way, taken in turn, and of the ratio between neighbours."""
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first round warms up
        for name, ask in ways.items():
            rate = await _rate(ask, streams)
            if number:
                seen[name].append(rate)
    ratios = [service / engine for engine, service in zip(seen["engine"], seen["service"], strict=True)]
    return {name: round(statistics.median(all_)) for name, all_ in seen.items()} | {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


async def _rate(ask: Ask, streams: int) -> float:
    questions = iter(QUESTIONS * (1 if streams == 1 else 4))

    async def worker() -> int:
        return sum([await ask(question) for question in questions])

    started = time.perf_counter()
    tokens = sum(await asyncio.gather(*(worker() for _ in range(streams))))
    return tokens / (time.perf_counter() - started)


async def _direct(engine: CTranslate2, slots: asyncio.Semaphore, question: str) -> int:
    payload = Chat((Message("user", question),), Sampling(max_tokens=300))
    job = Job("bench", Kind.CHAT, payload, model="nano-tutor")
    async with slots:
        async for event in engine.run(job):
            if isinstance(event, Done):
                return event.usage.completion_tokens
    raise RuntimeError("a run without an end")


async def _streamed(client: httpx.AsyncClient, question: str) -> int:
    body = _body(question, stream=True, stream_options={"include_usage": True})
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        last = [line async for line in _lines(response)][-2]
    return int(json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"])


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        if line:
            yield line


def _print(result: dict[str, Any]) -> None:
    print(f"first answer {result['start']['first_answer_s']} s after the command")
    print(f"memory {sum(result['memory_mb'].values()):.0f} MB in {len(result['memory_mb'])} processes")
    for streams, row in result["tokens_per_s"].items():
        print(
            f"{streams:>10}: engine {row['engine']:.0f} tok/s, service {row['service']:.0f} tok/s, "
            f"ratio {row['ratio']} ({row['ratio_min']}–{row['ratio_max']})"
        )


if __name__ == "__main__":
    main()
