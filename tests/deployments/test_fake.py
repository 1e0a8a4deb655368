import asyncio
import subprocess
import sys

import pytest

from deployments.fake import CRASH_STATUS, Scripted
from serve_app.errors import EngineFailed
from serve_app.types import Delta, Kind
from tests.deployments.subjects import collect, example


def scripted(**options: object) -> Scripted:
    return Scripted(Scripted.Options.model_validate(options))


async def said(engine: Scripted, text: str = "say it") -> list[str]:
    return [e.text for e in await collect(engine, example(Kind.CHAT, text)) if isinstance(e, Delta)]


async def test_it_says_what_it_is_told() -> None:
    assert await said(scripted(tokens=("a", "b"))) == ["a", "b"]
    assert await said(scripted(tokens=3)) == ["0 ", "1 ", "2 "]
    assert await said(scripted(echo=True), "two words") == ["two ", "words "]


async def test_it_breaks_where_it_is_told_to() -> None:
    engine = scripted(tokens=3, fail_at=1)
    run = engine.run(example(Kind.CHAT))
    assert isinstance(await anext(run), Delta)
    with pytest.raises(EngineFailed):
        await anext(run)
    with pytest.raises(RuntimeError):
        await scripted(fail_load=True).load()


def test_it_can_take_its_process_down() -> None:
    code = (
        "import asyncio; from deployments.fake import Scripted;"
        "from tests.deployments.subjects import collect, example; from serve_app.types import Kind;"
        "asyncio.run(collect(Scripted(Scripted.Options(crash_at=1)), example(Kind.CHAT)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == CRASH_STATUS


async def test_it_knows_what_became_of_its_runs() -> None:
    engine = scripted(tokens=2, delay_s=5)
    await collect(engine, example(Kind.CHAT, max_tokens=1))
    cancelled = asyncio.create_task(collect(engine, example(Kind.CHAT)))
    await asyncio.sleep(0.01)
    assert engine.active == 1
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    closed = engine.run(example(Kind.CHAT))
    await anext(closed)
    await closed.aclose()
    assert (engine.started, engine.finished, engine.cancelled, engine.active) == (3, 1, 2, 0)
