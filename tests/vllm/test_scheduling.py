"""Who goes first, what is computed once, and what a caller who leaves gives back."""

import asyncio
import time
from dataclasses import replace

import pytest

from deployments.vllm import VLLM
from serve_app.errors import Unavailable
from serve_app.types import Caller, Constraints, Done, Job, Kind, Priority
from tests.deployments.subjects import collect, example
from tests.pace import within
from tests.vllm.conftest import COMPUTED, Running, text_of

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800), pytest.mark.asyncio(loop_scope="session")]

LONG = "The sum of two and three is five, and of three and four it is seven. " * 8


def of_class(priority: Priority, seed: int = 0) -> Job:
    job = example(Kind.CHAT, temperature=50.0, seed=seed, max_tokens=60)
    return replace(job, constraints=Constraints(priority=priority))


async def place_of_the_last(engine: VLLM, others: int, last: Priority) -> int:
    """After how many batch requests, sent before it, a request is answered."""
    ended: list[int] = []

    async def run(number: int, job: Job) -> None:
        await collect(engine, job)
        ended.append(number)

    tasks = [asyncio.create_task(run(number, of_class(Priority.BATCH, number))) for number in range(others)]
    await asyncio.sleep(0.05)
    tasks.append(asyncio.create_task(run(others, of_class(last, others))))
    await asyncio.gather(*tasks)
    return ended.index(others)


async def test_premium_overtakes_inside_vllm(usual: Running, first_come: Running) -> None:
    """What is being computed is finished first. A batch request, or any in a plain queue, stays behind everybody."""
    others = 16
    assert await place_of_the_last(usual.engine, others, Priority.PREMIUM) <= 2 * COMPUTED
    assert await place_of_the_last(usual.engine, others, Priority.BATCH) >= others - COMPUTED
    assert await place_of_the_last(first_come.engine, others, Priority.PREMIUM) >= others - COMPUTED


async def cached(engine: VLLM, text: str, tenant: str) -> int:
    job = replace(example(Kind.CHAT, text, max_tokens=1), caller=Caller(tenant=tenant))
    done = (await collect(engine, job))[-1]
    assert isinstance(done, Done)
    return done.usage.cached_tokens


async def test_a_beginning_is_computed_once_for_each_tenant(usual: Running) -> None:
    """On a CPU, vLLM keeps blocks of 128 tokens."""
    assert await cached(usual.engine, LONG + "a", "one") == 0
    assert await cached(usual.engine, LONG + "b", "one") >= 128
    assert await cached(usual.engine, LONG + "b", "two") == 0
    assert usual.engine.gauges()["prefix_tokens_hit"] >= 128


async def test_leaving_frees_the_slot(usual: Running) -> None:
    engine = usual.engine
    jobs = [example(Kind.CHAT, temperature=50.0, seed=seed, max_tokens=450) for seed in range(COMPUTED)]

    async def next_after_those_who_left() -> float:
        runs = [engine.run(job) for job in jobs]
        await asyncio.gather(*(anext(run) for run in runs))
        assert engine.gauges()["requests_running"] == COMPUTED
        left = time.perf_counter()
        await asyncio.gather(*(run.aclose() for run in runs))
        await collect(engine, example(Kind.CHAT, max_tokens=1))
        return time.perf_counter() - left

    await within(1, next_after_those_who_left)
    assert engine.gauges()["requests_running"] == 0


async def test_a_core_that_dies_is_told(first_come: Running) -> None:
    """Last in this file: nothing can be asked of that engine afterwards. The host has such a replica replaced."""
    engine = first_come.engine
    await engine.check()
    run = engine.run(example(Kind.CHAT, temperature=50.0, seed=1, max_tokens=450))
    assert text_of([await anext(run)])
    first_come.core.kill()
    with pytest.raises(Unavailable):
        _ = [event async for event in run]
    with pytest.raises(Unavailable):
        await engine.check()
    with pytest.raises(Unavailable):
        await collect(engine, example(Kind.CHAT))
