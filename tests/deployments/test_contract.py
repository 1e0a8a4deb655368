"""What every engine must keep to, whichever it is."""

import asyncio
import contextlib
import importlib
import inspect
import pkgutil
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import deployments
from serve_app.engine import Engine
from serve_app.errors import MegaCityError
from serve_app.types import Delta, Done, Kind
from tests.deployments.subjects import (
    LISTED,
    NEEDED,
    TEXT,
    build,
    class_of,
    collect,
    example,
    prepared,
    subjects,
    unusable,
)
from tests.pace import within

SUBJECTS = subjects()
TEXTUAL = {name: subject for name, subject in SUBJECTS.items() if class_of(subject[0]).kinds & TEXT}
SLOT_FREE_S = 1.0


@contextlib.asynccontextmanager
async def loaded(engine: str, options: dict[str, Any]) -> AsyncIterator[Engine]:
    """The engine, with those that it needs behind it."""
    async with contextlib.AsyncExitStack() as stack:
        handlers = {}
        for role, kind in class_of(engine).needs.items():
            needed = await stack.enter_async_context(loaded(NEEDED[kind], LISTED[NEEDED[kind]]))
            handlers[role] = needed.run
        built = build(engine, prepared(engine, options), handlers)
        await built.load()
        stack.push_async_callback(built.close)
        yield built


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))


@pytest.fixture(params=SUBJECTS.values(), ids=SUBJECTS.keys())
async def engine(request: pytest.FixtureRequest, home: None) -> AsyncIterator[Engine]:
    async with loaded(*request.param) as engine:
        yield engine


@pytest.fixture(params=TEXTUAL.values(), ids=TEXTUAL.keys())
async def writer(request: pytest.FixtureRequest, home: None) -> AsyncIterator[Engine]:
    """An engine that writes text, token by token."""
    async with loaded(*request.param) as engine:
        yield engine


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


async def test_usage_counts_what_was_sent(writer: Engine) -> None:
    for kind in writer.kinds:
        *deltas, done = await collect(writer, example(kind, n=2))
        assert isinstance(done, Done)
        assert done.usage.completion_tokens == sum(d.tokens for d in deltas if isinstance(d, Delta)) > 0
        assert done.usage.prompt_tokens > 0
        assert all(isinstance(event, Delta) for event in deltas)
        assert done.usage.engine_s > 0
        assert len(done.finish) == 2
        assert {d.index for d in deltas if isinstance(d, Delta)} == {0, 1}


async def test_max_tokens_is_kept(writer: Engine) -> None:
    for kind in writer.kinds:
        done = (await collect(writer, example(kind, max_tokens=2)))[-1]
        assert isinstance(done, Done)
        assert done.usage.completion_tokens == 2
        assert done.finish == ("length",)


async def test_runs_at_the_same_time_do_not_mix(writer: Engine) -> None:
    for kind in writer.kinds:
        questions = [f"{a} + 4 = ?" for a in range(6)]
        alone = [_text(await collect(writer, example(kind, q, temperature=0))) for q in questions]
        together = await asyncio.gather(*(collect(writer, example(kind, q, temperature=0)) for q in questions))
        assert [_text(events) for events in together] == alone


@pytest.mark.parametrize("events_first", [0, 1])
async def test_closing_frees_the_slots(engine: Engine, events_first: int) -> None:
    """All slots are taken many times over by abandoned runs; the next run must not wait for them."""
    for kind in engine.kinds:
        started = time.perf_counter()
        await anext(engine.run(example(kind, max_tokens=1)))
        alone_s = time.perf_counter() - started
        await within(SLOT_FREE_S + alone_s, partial(_wait_after_closing, engine, kind, events_first))


async def test_cancelling_the_task_frees_the_slots(engine: Engine) -> None:
    for kind in engine.kinds:
        started = time.perf_counter()
        await collect(engine, example(kind, max_tokens=1))
        alone_s = time.perf_counter() - started
        for after_s in (0.0, 0.001, 0.005, 0.05):
            await within(SLOT_FREE_S + alone_s, partial(_wait_after_cancelling, engine, kind, after_s))


async def test_bad_input_is_refused_before_the_first_event(engine: Engine) -> None:
    for kind in engine.kinds:
        for job in unusable(kind):
            with pytest.raises(MegaCityError) as refused:
                await anext(engine.run(job))
            assert 400 <= refused.value.status < 500
            assert refused.value.message


async def _wait_after_closing(engine: Engine, kind: Kind, events_first: int) -> float:
    for run in [engine.run(example(kind, temperature=50.0, seed=1, n=4)) for _ in range(8)]:
        for _ in range(events_first):
            await anext(run)
        await run.aclose()
    closed = time.perf_counter()
    await anext(engine.run(example(kind, max_tokens=1)))
    return time.perf_counter() - closed


async def _wait_after_cancelling(engine: Engine, kind: Kind, after_s: float) -> float:
    job = example(kind, temperature=50.0, seed=1)
    tasks = [asyncio.create_task(collect(engine, job)) for _ in range(8)]
    await asyncio.sleep(after_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    cancelled = time.perf_counter()
    await collect(engine, example(kind, max_tokens=1))
    return time.perf_counter() - cancelled


def _text(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))
