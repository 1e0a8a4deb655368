"""What the whole path costs: MegaCity Serve against LiteLLM's proxy and a plain Ray Serve application.

`python -m benchmarks.overhead` starts all of them on this machine, on loopback and on ports of their own, and sends
the same requests to each in turn: answers of 50 tokens, in one piece and as streams, from a fake model that takes 0 or
5 ms per token, at 1, 10 and 32 at a time. The turns are short and many, so that neighbours in time are compared and
not one hour with another. `--variant "name:KEY=VALUE,..."` adds our service under other environment variables.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import Ask, Found, Load, free_ports

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "overhead.json"
README = HERE / "README.md"
LITELLM = "1.106.2"
TEXT = "".join(f"{at} " for at in range(50))
START_S = 180.0
BEGIN, END = "<!-- overhead: begin -->", "<!-- overhead: end -->"
PATH = "/v1/chat/completions"
MODELS = ("fake-0ms", "fake-5ms")
SAME = {"RAY_worker_niceness": "0"}  # Ray's workers would give way to all other candidates
QUESTION = [{"role": "user", "content": "What is 347 plus 85?"}]


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load."""

    delay_ms: int
    streamed: bool
    at_once: int

    def __str__(self) -> str:
        return f"{'stream' if self.streamed else 'unary'} {self.delay_ms} ms c{self.at_once}"

    def body(self) -> dict[str, Any]:
        return {"model": f"fake-{self.delay_ms}ms", "messages": QUESTION, "stream": self.streamed}


CELLS = [Cell(delay, streamed, n) for delay in (0, 5) for streamed in (False, True) for n in (1, 10, 32)]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that answers on a port. `root` is the process whose whole family is charged for it."""

    name: str
    port: int
    root: psutil.Process
    headers: dict[str, str] = field(default_factory=dict)

    def family(self) -> list[psutil.Process]:
        return [self.root, *self.root.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(_cpu_s(process) for process in self.family())

    def memory_mb(self) -> dict[str, float]:
        """RSS counts shared pages once per process, PSS once in all."""
        found = [process.memory_full_info() for process in self.family()]
        return {"rss": sum(one.rss for one in found) / 2**20, "pss": sum(one.pss for one in found) / 2**20}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one candidate did in one turn; times in milliseconds, CPU in seconds per 1,000 answers."""

    rate: float
    p50: float
    p99: float
    ttft_p50: float
    ttft_p99: float
    cpu: float
    events: float
    failed: int
    generator: float


Start = Callable[[contextlib.ExitStack, Path], Candidate]


def main() -> None:
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the candidates are stopped
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overhead-")))
        upstream = _upstream(stack, folder)
        starts = _starts(upstream.port, options.variant)
        names = ["direct", *(options.candidates or starts)]
        candidates = [upstream, *(_started(starts[name], name, stack, folder) for name in names[1:])]
        load = stack.enter_context(Load())
        for candidate in candidates:
            _check(candidate)
        turns = _rounds(load, candidates, _cells(options.only), options.rounds, options.seconds)
        memory = {candidate.name: candidate.memory_mb() for candidate in candidates}
        idle = {candidate.name: _idle(candidate) for candidate in candidates}
    result = _result(turns, memory, idle, options)
    _print(result)
    if options.save:
        _save(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one turn")
    parser.add_argument("--candidates", nargs="*", help="default: all; `direct` is always there")
    parser.add_argument("--variant", action="append", default=[], help="name:KEY=VALUE,KEY=VALUE")
    parser.add_argument("--only", default="", help="cells whose name holds this, such as 'unary 0 ms' or 'c32'")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name} and the table of {README.name}")
    return parser.parse_args()


def _cells(wanted: str) -> list[Cell]:
    return [cell for cell in CELLS if wanted in str(cell)]


# ---------------------------------------------------------------------------------------------- candidates


def _starts(upstream: int, variants: list[str]) -> dict[str, Start]:
    starts: dict[str, Start] = {
        "litellm": lambda stack, folder: _litellm(stack, folder, upstream),
        "serve": _bare_serve,
        "megacity": lambda stack, folder: megacity(stack, folder, "megacity", {}),
    }
    for variant in variants:
        name, _, pairs = variant.partition(":")
        environment = dict(pair.split("=", 1) for pair in pairs.split(",") if pair)
        starts[name] = lambda stack, folder, n=name, e=environment: megacity(stack, folder, n, e)  # type: ignore[misc]
    return starts


def _started(start: Start, name: str, stack: contextlib.ExitStack, folder: Path) -> Candidate:
    began = time.monotonic()
    candidate = start(stack, folder)
    print(f"{name} is ready after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return candidate


def _upstream(stack: contextlib.ExitStack, folder: Path) -> Candidate:
    (port,) = free_ports(1)
    return _spawned(stack, folder, "direct", port, [sys.executable, "-m", "benchmarks.upstream", str(port)])


def _litellm(stack: contextlib.ExitStack, folder: Path, upstream: int) -> Candidate:
    (port,) = free_ports(1)
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{upstream}/v1",
                "api_key": "x",
            },
        }
        for name in MODELS
    ]
    config = folder / "litellm.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": models}))
    environment = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # on loopback, and the lightest that it can be
    }
    command = [str(_installed_litellm()), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return _spawned(
        stack, folder, "litellm", port, [*command, "--num_workers", "1", "--telemetry", "False"], environment
    )


def _installed_litellm() -> Path:
    """LiteLLM in an environment of its own, made on first use; it does not agree with what we need."""
    place = HERE.parent / ".bench" / "litellm"
    command = place / "bin" / "litellm"
    if not command.exists():
        print(f"installing LiteLLM {LITELLM} into {place}", file=sys.stderr)
        venv.create(place, with_pip=True)
        subprocess.run([place / "bin" / "pip", "install", "--quiet", f"litellm[proxy]=={LITELLM}"], check=True)
    return command


def _bare_serve(stack: contextlib.ExitStack, folder: Path) -> Candidate:
    (port,) = free_ports(1)
    return _spawned(stack, folder, "serve", port, [sys.executable, "-m", "benchmarks.bare_serve", str(port)])


def megacity(
    stack: contextlib.ExitStack,
    folder: Path,
    name: str,
    environment: dict[str, str],
    profile: Path = HERE / "overhead.yaml",
    models: Sequence[str] = MODELS,
) -> Candidate:
    """Our service with a profile of fake engines, on ports and with accounts of its own."""
    http, grpc, dashboard = free_ports(3)
    ports = ["--port", str(http), "--grpc-port", str(grpc), "--dashboard-port", str(dashboard)]
    command = [sys.executable, "-m", "serve_app.cli", "up", "--profile", str(profile), *ports]
    return _spawned(stack, folder, name, http, command, {"MEGACITY_HOME": str(folder / name), **environment}, models)


def _spawned(
    stack: contextlib.ExitStack,
    folder: Path,
    name: str,
    port: int,
    command: list[str],
    environment: dict[str, str] | None = None,
    models: Sequence[str] = MODELS,
) -> Candidate:
    """Start a candidate, wait until it answers, and stop it when the stack is left."""
    told = folder / f"{name}.log"
    with told.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **SAME, **(environment or {})}
        )
    stack.callback(_stop, process)
    candidate = Candidate(name, port, psutil.Process(process.pid))
    deadline = time.monotonic() + START_S
    while not all(_answers(candidate, model) for model in models):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start; the end of what it said:\n{told.read_text()[-2000:]}")
        time.sleep(0.2)
    return candidate


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


def _answers(candidate: Candidate, model: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return _asked(candidate, {"model": model, "messages": QUESTION}).status_code == 200
    return False


def _asked(candidate: Candidate, body: dict[str, Any]) -> httpx.Response:
    url = f"http://127.0.0.1:{candidate.port}{PATH}"
    return httpx.post(url, json=body, headers=candidate.headers, timeout=30)


def _check(candidate: Candidate) -> None:
    """Every candidate must say the same text; a fast wrong answer is not an answer."""
    for delay in (0, 5):
        whole = _asked(candidate, Cell(delay, False, 1).body()).json()["choices"][0]["message"]["content"]
        lines = _asked(candidate, Cell(delay, True, 1).body()).text.splitlines()
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        pieces = [choice["delta"].get("content") or "" for chunk in told for choice in chunk["choices"]]
        if (whole, "".join(pieces)) != (TEXT, TEXT):
            raise RuntimeError(f"{candidate.name} does not say what it was given")


# ---------------------------------------------------------------------------------------------- measuring


def _rounds(
    load: Load, candidates: list[Candidate], cells: list[Cell], rounds: int, seconds: float
) -> dict[str, dict[str, list[Turn]]]:
    """For each cell and candidate its turns, one per round; the round before the first warms up."""
    turns: dict[str, dict[str, list[Turn]]] = {str(cell): {c.name: [] for c in candidates} for cell in cells}
    for number in range(rounds + 1):
        for cell in cells:
            for candidate in candidates:
                turn = _turn(load, candidate, cell, seconds if number else seconds / 4)
                if number:
                    turns[str(cell)][candidate.name].append(turn)
        print(f"round {number} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return turns


def _turn(load: Load, candidate: Candidate, cell: Cell, seconds: float) -> Turn:
    ask = Ask(candidate.port, PATH, cell.body(), candidate.headers)
    before = candidate.cpu_s()
    found = load.closed(ask, cell.at_once, seconds)
    cpu = candidate.cpu_s() - before
    good = found.good
    if not good:
        raise RuntimeError(f"{candidate.name} gave no good answer for {cell}")
    times, firsts = [a.seconds * 1000 for a in good], [a.first_s * 1000 for a in good]
    return Turn(
        rate=found.rate,
        p50=statistics.median(times),
        p99=percentile(times, 99),
        ttft_p50=statistics.median(firsts),
        ttft_p99=percentile(firsts, 99),
        cpu=cpu / len(good) * 1000,
        events=statistics.fmean(a.events for a in good),
        failed=len(found.answers) - len(good),
        generator=_share(found),
    )


def _share(found: Found) -> float:
    return found.busy_s / found.elapsed_s


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def _cpu_s(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _idle(candidate: Candidate, seconds: float = 3.0) -> float:
    """CPU seconds per second while nothing is asked."""
    before = candidate.cpu_s()
    time.sleep(seconds)
    return (candidate.cpu_s() - before) / seconds


# ---------------------------------------------------------------------------------------------- telling


def _result(
    turns: dict[str, dict[str, list[Turn]]],
    memory: dict[str, dict[str, float]],
    idle: dict[str, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    return {
        **described(f"benchmarks.overhead --rounds {options.rounds} --seconds {options.seconds:g}"),
        "memory_mb": {name: {kind: round(mb) for kind, mb in kinds.items()} for name, kinds in memory.items()},
        "idle_cpu": {name: round(share, 3) for name, share in idle.items()},
        "cells": {cell: _medians(by_name) for cell, by_name in turns.items()},
    }


def described(command: str) -> dict[str, Any]:
    """On what and with what something was measured."""
    return {
        "command": f"python -m {command}",
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "kernel": platform.release()},
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "versions": {
            "python": platform.python_version(),
            "litellm": LITELLM,
            **{name: version(name) for name in ("ray", "uvicorn", "uvloop", "fastapi", "pydantic")},
        },
    }


def _medians(by_name: dict[str, list[Turn]]) -> dict[str, dict[str, float]]:
    """Per candidate the median of each figure, and of its rate against LiteLLM's of the same round."""
    told: dict[str, dict[str, float]] = {}
    for name, turns in by_name.items():
        row = {key: round(statistics.median(getattr(t, key) for t in turns), 3) for key in Turn.__slots__}
        for key in ("p50", "p99", "ttft_p50"):
            pairs = zip(turns, by_name["direct"], strict=True)
            row[f"added_{key}"] = round(statistics.median(getattr(t, key) - getattr(d, key) for t, d in pairs), 3)
        if "litellm" in by_name:
            ratios = [t.rate / peer.rate for t, peer in zip(turns, by_name["litellm"], strict=True)]
            row |= {"x": round(statistics.median(ratios), 1), "x_min": round(min(ratios), 1)}
            row["x_max"] = round(max(ratios), 1)
        told[name] = row
    return told


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _table(result: dict[str, Any]) -> Iterator[str]:
    yield "| load | who | answers/s | × LiteLLM (range) | added p50 | added p99 | added TTFT | CPU-s/1000 | events |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for cell, rows in result["cells"].items():
        for name, row in rows.items():
            ratio = f"{row['x']} ({row['x_min']}–{row['x_max']})" if "x" in row else ""
            yield (
                f"| {cell} | {name} | {row['rate']:.0f} | {ratio} | {row['added_p50']:.2f} | {row['added_p99']:.1f} "
                f"| {row['added_ttft_p50']:.2f} | {row['cpu']:.2f} | {row['events']:.0f} |"
            )
    yield ""
    yield "| who | PSS MiB | RSS MiB | CPU while idle |"
    yield "|---|--:|--:|--:|"
    for name, kinds in result["memory_mb"].items():
        yield f"| {name} | {kinds['pss']} | {kinds['rss']} | {100 * result['idle_cpu'][name]:.1f} % |"


def _print(result: dict[str, Any]) -> None:
    print("\n".join(_table(result)))
    worst = max(row["failed"] for rows in result["cells"].values() for row in rows.values())
    busiest = max(row["generator"] for rows in result["cells"].values() for row in rows.values())
    print(f"failed answers in a turn, at most: {worst:.0f}; the generator's CPU, at most: {busiest:.0%} of a core")


def _save(result: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    before, _, rest = README.read_text().partition(BEGIN)
    machine, versions = result["machine"], ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, load average {result['load_average'][0]}; {versions}."
    on = f"{where} `{result['command']}`"
    README.write_text("\n".join([before + BEGIN, on, "", *_table(result), END]) + rest.partition(END)[2])


if __name__ == "__main__":
    main()
