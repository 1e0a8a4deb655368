"""vLLM through the service against vLLM's own server: tokens per second and time to the first token.

`python -m benchmarks.vllm`, in the environment of `make test-vllm`, starts both on this machine with the nano tutor
and the same settings, and streams the same greedy answers of 128 tokens from each in turn, at 1 and at 16 at a time.
Where `pyarrow` is installed too, Ray's own `ray.serve.llm` comes after: each has vLLM's own server beside it, and no
third one that takes a part of the machine while it is idle.
Figures are medians over rounds; ratios and differences are between neighbours in time.
"""

import argparse
import contextlib
import importlib.util
import json
import operator
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import Ask, Found, Load, free_ports

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "vllm.json"
START_S = 900.0
TOKENS = 128
STREAMS = (1, 16)
PATH = "/v1/chat/completions"
SERVER = "vllm.entrypoints.launchers.api_server.entry"
BODY: dict[str, Any] = {
    "model": "nano-tutor",
    "messages": [{"role": "user", "content": "2 + 3 = ?"}],
    "max_tokens": TOKENS,
    "temperature": 0,
    "logit_bias": {"2": -100},  # the token that would end the answer
    "stream": True,
}
FRESH = {"cache-control": "no-store"}  # this service keeps greedy answers
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING", "RAY_worker_niceness": "0"}


def main() -> None:
    options = _arguments()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vllm-")))
        direct, load = _vllm(stack, folder), stack.enter_context(Load())
        compared = {"megacity": _megacity}
        if importlib.util.find_spec("pyarrow"):
            compared["ray.serve.llm"] = _serve_llm
        rounds = {}
        for name, start in compared.items():
            with contextlib.ExitStack() as beside:
                ports = {"vllm": direct, name: start(beside, folder)}
                found = [_round(load, ports, options.seconds) for _ in range(options.rounds + 1)]
            rounds[name] = found[1:]  # the first warms up
    result = {
        "machine": {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        "rounds": options.rounds,
        **{
            f"{streams} streams": {
                name: _summary(name, [each[streams] for each in found]) for name, found in rounds.items()
            }
            for streams in STREAMS
        },
    }
    print(json.dumps(result, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one turn")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args()


def _vllm(stack: contextlib.ExitStack, folder: Path) -> int:
    """vLLM's own server, with what the profile says."""
    (port,) = free_ports(1)
    names = ["--model", "models/nano-tutor", "--served-model-name", "nano-tutor"]
    sizes = ["--max-num-seqs", "16", "--kv-cache-memory-bytes", str(2**29), "--enforce-eager"]
    same = ["--enable-prefix-caching", "--scheduling-policy", "priority"]
    address = ["--host", "127.0.0.1", "--port", str(port), "--uvicorn-log-level", "warning"]
    _spawned(stack, folder, "vllm", port, [sys.executable, "-m", SERVER, *names, *sizes, *same, *address], {})
    return port


def _megacity(stack: contextlib.ExitStack, folder: Path) -> int:
    port, grpc, dashboard = free_ports(3)
    command = [sys.executable, "-m", "serve_app.cli", "up", "--profile", str(HERE / "vllm.yaml")]
    ports = ["--port", str(port), "--grpc-port", str(grpc), "--dashboard-port", str(dashboard)]
    _spawned(stack, folder, "megacity", port, [*command, *ports], {"MEGACITY_HOME": str(folder / "home")})
    return port


def _serve_llm(stack: contextlib.ExitStack, folder: Path) -> int:
    (port,) = free_ports(1)
    _spawned(stack, folder, "ray.serve.llm", port, [sys.executable, "-m", "benchmarks.serve_llm", str(port)], {})
    return port


def _spawned(
    stack: contextlib.ExitStack, folder: Path, name: str, port: int, command: list[str], environment: dict[str, str]
) -> None:
    """Start a server, wait until it answers, and stop it when the stack is left."""
    told = folder / f"{name}.log"
    with told.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **QUIET, **environment})
    stack.callback(_stop, process)
    deadline = time.monotonic() + START_S
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start; the end of what it said:\n{told.read_text()[-2000:]}")
        time.sleep(0.5)
    print(f"{name} is ready", file=sys.stderr)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


def _answers(port: int) -> bool:
    """Whether it says as many tokens as it was asked for."""
    with contextlib.suppress(httpx.TransportError):
        reply = httpx.post(f"http://127.0.0.1:{port}{PATH}", json=BODY | {"stream": False}, timeout=60)
        return reply.status_code == 200 and reply.json()["usage"]["completion_tokens"] == TOKENS
    return False


def _round(load: Load, ports: dict[str, int], seconds: float) -> dict[int, dict[str, Found]]:
    found = {
        n: {name: load.closed(Ask(port, PATH, BODY, FRESH), n, seconds) for name, port in ports.items()}
        for n in STREAMS
    }
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return found


def _summary(name: str, rounds: list[dict[str, Found]]) -> dict[str, Any]:
    """Targets, for this service: a ratio of tokens of 0.9, and 15 ms more to the first token."""
    rates = {who: [each[who].rate * TOKENS for each in rounds] for who in rounds[0]}
    firsts = {who: [_first_ms(each[who]) for each in rounds] for who in rounds[0]}
    return {
        "tokens_per_s": {who: round(statistics.median(all_), 1) for who, all_ in rates.items()},
        "first_token_ms": {who: round(statistics.median(all_), 1) for who, all_ in firsts.items()},
        "ratio": _spread(list(map(operator.truediv, rates[name], rates["vllm"])), 3),
        "added_ms": _spread(list(map(operator.sub, firsts[name], firsts["vllm"])), 1),
        "failed": sum(len(f.answers) - len(f.good) for each in rounds for f in each.values()),
    }


def _spread(values: list[float], digits: int) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def _first_ms(found: Found) -> float:
    return statistics.median(answer.first_s for answer in found.good) * 1000


if __name__ == "__main__":
    main()
