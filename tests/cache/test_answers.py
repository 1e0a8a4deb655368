"""What is kept, for whom, and how it comes back."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from serve_app import metrics
from serve_app.errors import EngineFailed
from serve_app.policies.caching import CacheRules, key_of
from serve_app.services.kv import KV, Memory
from serve_app.types import Artifact, Delta, Done, Event, Job, Progress, Routed, Usage, Wish
from tests.cache.conftest import ANSWER, DECISION, SECRET, Engine, question


async def test_a_hit_is_told_as_the_engine_told_it(kv: KV) -> None:
    engine = Engine(kv)
    first, second = await engine.ask(question()), await engine.ask(question())
    assert first == [Routed(DECISION, "miss"), *ANSWER[1:]]
    assert second == [Routed(DECISION, "hit", attempts=0), *ANSWER[1:]]
    assert engine.runs == 1


async def test_no_tenant_gets_another_ones_answer(kv: KV) -> None:
    engine = Engine(kv)
    results = [await engine.result(question(str(at), tenant)) for at in range(50) for tenant in "ab"]
    assert results == ["miss"] * 100
    results = [await engine.result(question(str(at), tenant)) for at in range(50) for tenant in "ab"]
    assert results == ["hit"] * 100


@pytest.mark.parametrize(
    ("sampling", "sampled", "result"),
    [
        ({"temperature": 0.0}, False, "hit"),
        ({"temperature": 0}, False, "hit"),
        ({"temperature": 0.7}, False, "bypass"),
        ({"temperature": None}, False, "bypass"),
        ({"temperature": 0.7, "seed": 0}, False, "hit"),
        ({"temperature": 0.7}, True, "hit"),
    ],
)
async def test_only_what_would_be_said_again_is_kept(sampling: dict[str, float], sampled: bool, result: str) -> None:
    engine = Engine(Memory(10_000), CacheRules(sampled=sampled))
    await engine.ask(question(**sampling))
    assert await engine.result(question(**sampling)) == result


async def test_who_does_not_want_it_is_not_given_it_and_leaves_nothing(kv: KV) -> None:
    engine, alone = Engine(kv), replace(question(), wish=Wish(no_store=True))
    assert [await engine.result(alone) for _ in range(2)] == ["bypass", "bypass"]
    assert await engine.result(question()) == "miss"
    assert await engine.result(alone) == "bypass"
    assert engine.runs == 4


async def test_it_can_be_turned_off() -> None:
    engine = Engine(Memory(10_000), CacheRules(enabled=False))
    assert [await engine.result(question()) for _ in range(2)] == ["bypass", "bypass"]


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param([EngineFailed("broke")], id="error"),
        pytest.param([], id="cut"),
        pytest.param([Done(Usage(), ("stop", "content_filter"))], id="filtered"),
        pytest.param([Delta("x" * 1024 * 1024), Done(Usage())], id="too long"),
        pytest.param([Artifact("a", "image/png", b"x" * 1024 * 1024), Done(Usage())], id="too large"),
    ],
)
async def test_what_is_no_whole_answer_is_not_kept(ending: list[Event | BaseException]) -> None:
    engine = Engine(Memory(10**8), script=[Routed(DECISION), Delta("some"), *ending])
    for _ in range(2):
        if ending and isinstance(ending[0], EngineFailed):
            with pytest.raises(EngineFailed):
                await engine.ask(question())
        else:
            assert (await engine.ask(question()))[0] == Routed(DECISION, "miss")
    assert engine.runs == 2


async def test_artifacts_are_kept_and_progress_is_not_told_again() -> None:
    picture = Artifact("a", "image/png", bytes(range(256)))
    engine = Engine(Memory(10_000), script=[Routed(DECISION), Progress(0.5), picture, Delta("said"), Done(Usage())])
    assert len(await engine.ask(question())) == 5
    hit = await engine.ask(question())
    assert hit == [Routed(DECISION, "hit", attempts=0), picture, Delta("said"), Done(Usage())]


async def test_the_answer_of_a_model_that_stood_in_is_not_kept() -> None:
    routed = Routed(replace(DECISION, model="other"), attempts=2)
    engine = Engine(Memory(10_000), script=[routed, Done()])
    assert await engine.ask(question()) == [replace(routed, cache="miss"), Done()]
    assert await engine.result(question()) == "miss"


async def test_who_leaves_early_leaves_nothing() -> None:
    engine = Engine(Memory(10_000))
    run = engine.handler(question())
    for _ in ANSWER[:-1]:
        await anext(run)
    await run.aclose()
    assert await engine.result(question()) == "miss"


async def test_who_leaves_closes_what_is_behind() -> None:
    closed = asyncio.Event()

    async def hang(_: Job) -> AsyncGenerator[Event]:
        try:
            yield Routed(DECISION)
            await asyncio.Event().wait()
        finally:
            closed.set()

    engine = Engine(Memory(10_000))
    engine.run = hang  # type: ignore[method-assign]
    run = engine.handler(question())
    await anext(run)
    await run.aclose()
    assert closed.is_set()


@pytest.mark.parametrize("kept", [b"", b"{", b"null", b"[]", b'{"events": 3}', b'{"events": [], "usage": {"no": 1}}'])
async def test_what_cannot_be_read_is_a_miss(kept: bytes) -> None:
    memory = Memory(10_000)
    await memory.put(key_of(question(), SECRET), kept, 60)
    assert await Engine(memory).result(question()) == "miss"


async def test_tasks_are_counted_by_names_of_the_profile_only() -> None:
    engine = Engine(Memory(10_000))
    for task in ("Math_Tutor", "made up", None):
        await engine.ask(replace(question(), wish=Wish(task=task)))
    tasks = {sample.labels["task"] for family in metrics.CACHE.collect() for sample in family.samples}
    assert tasks == {"math_tutor", "none"}
