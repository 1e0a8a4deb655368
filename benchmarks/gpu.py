"""The plan of `megacity check` against a real card, and vLLM's speed on it.

`python -m benchmarks.gpu --model FOLDER --gpu 0.8`, on a machine with a GPU, compares the card's memory as planned and
as CUDA reports it, loads the model with that fraction as its limit, and prints what it holds, its tokens per second and
its time to the first token at 1 and 16 streams. Without `--model` only the card is looked at. On a machine without a
GPU it says so and ends.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from contextlib import aclosing
from typing import Any

from deployments.vllm import VLLM
from serve_app.policies.cards import CONTEXT, GIB, Card
from serve_app.services.gpus import limited, machine_cards
from serve_app.types import Chat, Delta, Done, Job, Kind, Message, Sampling

TOKENS = 256
STREAMS = (1, 16)
QUESTION = "Explain in detail, with examples, how to solve a quadratic equation."


def main() -> None:
    options = _arguments()
    cards = machine_cards()
    if not (cards and _cuda()):
        print("no GPU here: nothing to measure")
        return
    result: dict[str, Any] = {"card": _card(cards[0])}
    if options.model:
        result["vllm"] = asyncio.run(_model(options.model, options.gpu, options.max_model_len, cards[0]))
    print(json.dumps(result, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder with a checkpoint")
    parser.add_argument("--gpu", type=float, default=0.8, help="fraction of the card, as `resources.gpu`")
    parser.add_argument("--max-model-len", type=int)
    return parser.parse_args()


def _cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _card(planned: Card) -> dict[str, Any]:
    """Memory as the plan takes it and as CUDA reports it, and what a bare context takes of it."""
    import torch

    used_before = _used()
    torch.zeros(1, device="cuda")
    return {
        "name": planned.name,
        "planned_gib": round(planned.memory / GIB, 2),
        "cuda_gib": round(torch.cuda.get_device_properties(0).total_memory / GIB, 2),
        "context_planned_gib": CONTEXT / GIB,
        "context_gib": round((_used() - used_before) / GIB, 2),
    }


def _used() -> int:
    """Bytes in use on the first card, by whomever, as the driver says."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return int(told.splitlines()[0]) * 2**20


async def _model(folder: str, fraction: float, max_model_len: int | None, card: Card) -> dict[str, Any]:
    before = _used()
    options = limited(VLLM.Options(model=folder, max_model_len=max_model_len), fraction)
    engine = VLLM(options, slots=max(STREAMS))
    started = time.perf_counter()
    await engine.load()
    loaded_s = time.perf_counter() - started
    await _rate(engine, 1)
    speed = {f"{streams} streams": await _rate(engine, streams) for streams in STREAMS}
    held = (_used() - before) / GIB
    await engine.close()
    budget = card.budget(fraction) / GIB
    return {"load_s": round(loaded_s, 1), "held_gib": round(held, 2), "budget_gib": round(budget, 2), **speed}


async def _rate(engine: VLLM, streams: int) -> dict[str, float]:
    started = time.perf_counter()
    answers = await asyncio.gather(*(_answer(engine, number) for number in range(streams)))
    elapsed = time.perf_counter() - started
    return {
        "tokens_per_s": round(sum(tokens for tokens, _ in answers) / elapsed, 1),
        "first_token_ms": round(statistics.median(first for _, first in answers) * 1000, 1),
    }


async def _answer(engine: VLLM, number: int) -> tuple[int, float]:
    """Tokens, and seconds to the first."""
    sampling = Sampling(max_tokens=TOKENS, temperature=1.0, seed=number)
    job = Job("bench", Kind.CHAT, Chat((Message("user", QUESTION),), sampling))
    started, first = time.perf_counter(), 0.0
    async with aclosing(engine.run(job)) as events:
        async for event in events:
            if isinstance(event, Delta):
                first = first or time.perf_counter() - started
            elif isinstance(event, Done):
                return event.usage.completion_tokens, first
    raise RuntimeError("a run without an end")


if __name__ == "__main__":
    main()
