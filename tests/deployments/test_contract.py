"""What every engine must keep to, whichever it is."""

import asyncio
import importlib
import inspect
import pkgutil
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

import deployments
from serve_app.engine import Engine
from serve_app.errors import BadRequest
from serve_app.types import Delta, Done, Kind
from tests.deployments.subjects import build, collect, example, subjects

SUBJECTS = subjects()
SLOT_FREE_S = 1.0


@pytest.fixture(params=SUBJECTS.values(), ids=SUBJECTS.keys())
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    engine = build(*request.param)
    await engine.load()
    yield engine
    await engine.close()


def test_every_engine_is_a_subject() -> None:
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(deployments.__path__, "deployments.")]
    engines = {
        f"{cls.__module__}:{cls.__name__}"
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Engine) and cls is not Engine and not inspect.isabstract(cls)
    }
    assert engines <= {engine for engine, _ in SUBJECTS.values()}


@pytest.mark.parametrize(("engine", "options"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_unknown_options_are_refused(engine: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        build(engine, options | {"no_such_option": 1})


async def test_one_done_comes_last(engine: Engine) -> None:
    for kind in engine.kinds:
        events = await collect(engine, example(kind))
        assert [event for event in events if isinstance(event, Done)] == [events[-1]]
        assert all(isinstance(event, Delta) for event in events[:-1])


async def test_usage_counts_what_was_sent(engine: Engine) -> None:
    for kind in engine.kinds:
        *deltas, done = await collect(engine, example(kind, n=2))
        assert isinstance(done, Done)
        assert done.usage.completion_tokens == sum(d.tokens for d in deltas if isinstance(d, Delta)) > 0
        assert done.usage.prompt_tokens > 0
        assert done.usage.engine_s > 0
        assert len(done.finish) == 2
        assert {d.index for d in deltas if isinstance(d, Delta)} == {0, 1}


async def test_max_tokens_is_kept(engine: Engine) -> None:
    for kind in engine.kinds:
        done = (await collect(engine, example(kind, max_tokens=2)))[-1]
        assert isinstance(done, Done)
        assert done.usage.completion_tokens == 2
        assert done.finish == ("length",)


async def test_runs_at_the_same_time_do_not_mix(engine: Engine) -> None:
    for kind in engine.kinds:
        questions = [f"{a} + 4 = ?" for a in range(6)]
        alone = [_text(await collect(engine, example(kind, q, temperature=0))) for q in questions]
        together = await asyncio.gather(*(collect(engine, example(kind, q, temperature=0)) for q in questions))
        assert [_text(events) for events in together] == alone


@pytest.mark.parametrize("events_first", [0, 1])
async def test_closing_frees_the_slots(engine: Engine, events_first: int) -> None:
    """All slots are taken many times over by abandoned runs; the next run must not wait for them."""
    job = example(Kind.CHAT, temperature=50.0, seed=1, n=4)
    runs = [engine.run(job) for _ in range(8)]
    for run in runs:
        for _ in range(events_first):
            await anext(run)
        await run.aclose()  # type: ignore[attr-defined]
    closed = time.perf_counter()
    await anext(engine.run(example(Kind.CHAT, max_tokens=1)))
    assert time.perf_counter() - closed < SLOT_FREE_S


async def test_cancelling_the_task_frees_the_slots(engine: Engine) -> None:
    for after_s in (0.0, 0.001, 0.005, 0.05):
        tasks = [asyncio.create_task(collect(engine, example(Kind.CHAT, temperature=50.0, seed=1))) for _ in range(8)]
        await asyncio.sleep(after_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = time.perf_counter()
        await collect(engine, example(Kind.CHAT, max_tokens=1))
        assert time.perf_counter() - cancelled < SLOT_FREE_S


@pytest.mark.parametrize("wrong", [{"text": ""}, {"max_tokens": 0}, {"n": 0}])
async def test_bad_input_is_refused_before_the_first_event(engine: Engine, wrong: dict[str, Any]) -> None:
    for kind in engine.kinds:
        with pytest.raises(BadRequest) as refused:
            await anext(engine.run(example(kind, **wrong)))
        assert refused.value.message


def _text(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))
