"""What the service costs on top of its engine, and how soon it answers.

`python -m benchmarks.service` starts the embedded profile on ports of its own, measures the time from the command to
the first answered request and every process's memory, then the tokens per second of the same requests sent (a) to
the engine class in this process and (b) through the whole service as streams, in turn, at 1 and at 8 streams. The
answers are greedy, so that both say the same tokens, and the cache is told to stay out of it.
Figures are medians over rounds; the ratios are between neighbours in time, so they hold on a machine that drifts.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import Ask, Load, free_ports
from deployments.llm import CTranslate2
from serve_app.config import EngineEntry
from serve_app.profile import load_profile
from serve_app.types import Chat, Done, Job, Kind, Message, Sampling

QUESTIONS = [f"{a} × {b} = ?" for a in (47, 68, 73, 89) for b in (36, 52, 74, 95)]
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = _arguments()
    profile = load_profile("embedded")
    with _service() as (port, first_answer_s):
        memory = _memory(f"http://127.0.0.1:{port}")
        rates = asyncio.run(_compare(port, profile.settings.engines["tutor"], options.rounds, options.seconds))
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
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one turn")
    return parser.parse_args()


@contextlib.contextmanager
def _service() -> Iterator[tuple[int, float]]:
    """A service on free ports; yields its port and the seconds from the command to the first answer."""
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
        yield http, time.perf_counter() - started
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
    """The memory of every process, in MiB, once the command has said that all of them are there."""
    command = [sys.executable, "-m", "serve_app.cli", "status", "--url", url, "--json"]
    state: dict[str, Any] = {}
    while "processes" not in state:
        state = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {f"{number} {p['name']}": p["pss_mb"] for number, p in enumerate(state["processes"], 1)}


async def _compare(port: int, entry: EngineEntry, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    engine = CTranslate2(entry.engine_options(), slots=entry.slots)
    await engine.load()
    tokens = {question: await _answered(engine, question) for question in QUESTIONS}
    rates = {}
    with Load() as load:
        for streams in (1, 8):
            seen = []
            for _ in range(rounds + 1):
                alone = await _alone(engine, entry.slots, streams, seconds)
                served = await asyncio.to_thread(load.closed, _asks(port), streams, seconds)
                seen.append((alone, sum(tokens[answer.mark] for answer in served.good) / served.elapsed_s))
            rates[f"{streams} streams"] = _summary(seen[1:])  # the first round warms up
    await engine.close()
    return rates


def _summary(seen: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Medians of tokens per second for each way, and of the ratio between neighbours."""
    ratios = [served / alone for alone, served in seen]
    return {
        "engine": round(statistics.median(alone for alone, _ in seen)),
        "service": round(statistics.median(served for _, served in seen)),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


async def _alone(engine: CTranslate2, slots: int, streams: int, seconds: float) -> float:
    """Tokens per second of `streams` callers that ask again as soon as they are answered."""
    room, questions = asyncio.Semaphore(slots), itertools.cycle(QUESTIONS)
    started = time.perf_counter()

    async def caller() -> int:
        said = 0
        while time.perf_counter() < started + seconds:
            async with room:
                said += await _answered(engine, next(questions))
        return said

    said = await asyncio.gather(*(caller() for _ in range(streams)))
    return sum(said) / (time.perf_counter() - started)


async def _answered(engine: CTranslate2, question: str) -> int:
    """How many tokens the engine's greedy answer has."""
    payload = Chat((Message("user", question),), Sampling(max_tokens=300, temperature=0))
    job = Job("bench", Kind.CHAT, payload, model="nano-tutor")
    async for event in engine.run(job):
        if isinstance(event, Done):
            return event.usage.completion_tokens
    raise RuntimeError("a run without an end")


def _asks(port: int) -> list[Ask]:
    fresh = {"cache-control": "no-store"}
    return [
        Ask(port, "/v1/chat/completions", _body(question, stream=True, temperature=0), fresh, mark=question)
        for question in QUESTIONS
    ]


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
