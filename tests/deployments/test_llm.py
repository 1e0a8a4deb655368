"""The language engine on the model that comes with the project."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployments.llm import Answers, CTranslate2
from deployments.text.generation import Generation, Plan
from deployments.text.stream import Choice
from serve_app.errors import BadRequest, ConfigError, EngineFailed
from serve_app.types import Delta, Done, Event, Kind
from tests.deployments.subjects import NANO, collect, example

WILD = {"temperature": 10.0, "max_tokens": 24}


@pytest.fixture
async def engine() -> AsyncIterator[CTranslate2]:
    engine = CTranslate2(CTranslate2.Options(path=NANO), slots=3)
    await engine.load()
    yield engine
    await engine.close()


def texts(events: list[Event], n: int = 1) -> list[str]:
    deltas = [event for event in events if isinstance(event, Delta)]
    return ["".join(d.text for d in deltas if d.index == index) for index in range(n)]


async def ask(engine: CTranslate2, text: str = "17 + 25 = ?", **sampling: Any) -> tuple[str, Done]:
    *deltas, done = await collect(engine, example(Kind.CHAT, text, **sampling))
    assert isinstance(done, Done)
    return texts(deltas)[0], done


async def test_korean_is_streamed_in_whole_characters(engine: CTranslate2) -> None:
    events = await collect(engine, example(Kind.CHAT, "17 더하기 25는 얼마인가요?"))
    deltas = [event for event in events if isinstance(event, Delta)]
    assert len(deltas) > 1
    assert not any("\ufffd" in delta.text for delta in deltas)


async def test_greedy_is_the_default_and_repeats(engine: CTranslate2) -> None:
    first, _ = await ask(engine)
    assert (await ask(engine))[0] == (await ask(engine, temperature=0, seed=5))[0] == first


async def test_a_seed_repeats_a_text_even_among_others(engine: CTranslate2) -> None:
    alone, done = await ask(engine, seed=1, **WILD)
    together = await asyncio.gather(*(ask(engine, seed=seed, **WILD) for seed in (1, 2, 3, 4, 5, 6, 1)))
    texts = [text for text, _ in together]
    assert texts[0] == texts[-1] == alone
    assert len(set(texts)) > 2
    assert done.usage.completion_tokens <= WILD["max_tokens"]


async def test_without_a_seed_texts_differ(engine: CTranslate2) -> None:
    assert len({(await ask(engine, **WILD))[0] for _ in range(4)}) > 1


async def test_seeded_sampling_meets_greedy_when_it_is_cold(engine: CTranslate2) -> None:
    """More tokens than one stretch of logits, so that stretches are joined as well."""
    cold, done = await ask(engine, "123 × 456 = ?", temperature=1e-6, seed=1, max_tokens=150)
    greedy, _ = await ask(engine, "123 × 456 = ?", max_tokens=150)
    assert cold == greedy
    assert done.usage.completion_tokens > 0


async def test_choices_are_generations_of_their_own(engine: CTranslate2) -> None:
    events = await collect(engine, example(Kind.CHAT, n=3, seed=1, **WILD))
    assert len(set(texts(events, 3))) == 3
    done = events[-1]
    assert isinstance(done, Done)
    assert len(done.finish) == 3
    assert texts(events, 3) == texts(await collect(engine, example(Kind.CHAT, n=3, seed=1, **WILD)), 3)


async def test_a_stop_string_ends_the_answer_before_itself(engine: CTranslate2) -> None:
    whole, all_done = await ask(engine)
    middle = len(whole) // 2
    for size in (1, 2, 5):
        stop = whole[middle : middle + size]
        text, done = await ask(engine, stop=("never said", stop))
        assert text == whole[: whole.index(stop)]
        assert done.finish == ("stop",)
        assert done.usage.completion_tokens <= all_done.usage.completion_tokens


async def test_what_was_held_back_for_a_stop_string_is_shown_in_the_end(engine: CTranslate2) -> None:
    whole, _ = await ask(engine)
    text, _ = await ask(engine, stop=(whole[-3:] + "…",))
    assert text == whole


async def test_prompt_tokens_are_those_of_the_tokenizer(engine: CTranslate2) -> None:
    """Every digit is a token of its own in this model."""
    counts = [(await ask(engine, f"1 + {'7' * digits} = ?"))[1].usage.prompt_tokens for digits in (1, 6)]
    assert counts[1] - counts[0] == 5


async def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(engine: CTranslate2) -> None:
    for kind, param in ((Kind.CHAT, "messages"), (Kind.COMPLETION, "prompt")):
        with pytest.raises(BadRequest, match=r"at most \d+ tokens.*has \d+") as refused:
            await collect(engine, example(kind, "7 " * 20_000))
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", param)


async def test_the_context_ends_an_answer() -> None:
    engine = CTranslate2(CTranslate2.Options(path=NANO, context_tokens=40))
    await engine.load()
    _, done = await ask(engine, temperature=50.0, seed=3, max_tokens=10_000)
    assert done.usage.total_tokens <= 40
    assert (done.finish == ("length",)) == (done.usage.total_tokens == 40)
    await engine.close()


async def test_too_many_choices_are_refused(engine: CTranslate2) -> None:
    with pytest.raises(BadRequest) as refused:
        await ask(engine, n=9)
    assert refused.value.param == "n"


async def test_a_stop_string_ends_its_own_choice_only(engine: CTranslate2) -> None:
    whole = texts(await collect(engine, example(Kind.CHAT, n=3, seed=2, **WILD)), 3)
    stop = whole[1][4:9]
    cut = texts(await collect(engine, example(Kind.CHAT, n=3, seed=2, stop=(stop,), **WILD)), 3)
    assert cut == [text.partition(stop)[0] for text in whole]
    assert cut[1] != whole[1]


class Broken:
    """A generator whose GPU is gone."""

    def generate_batch(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA failed with error out of memory")


BROKEN = Generation(Broken(), ["a"], [0])


async def test_a_fault_in_the_middle_is_an_engine_failure() -> None:
    answers = Answers(Plan([0], 5), [Choice(0, lambda token: str(token), ())])
    with ThreadPoolExecutor(1) as workers:
        answers.start(workers, BROKEN)
        await answers.feed.wait()
        with pytest.raises(EngineFailed) as failed:
            answers.advance()
    assert "CUDA" not in failed.value.message


async def test_after_a_fault_health_is_checked_by_generating(engine: CTranslate2) -> None:
    sound, engine._generation = engine._generation, BROKEN
    await engine.check()  # nothing has gone wrong yet
    with pytest.raises(EngineFailed):
        await ask(engine)
    with pytest.raises(RuntimeError):
        await engine.check()
    engine._generation = sound
    await engine.check()
    assert (await ask(engine))[1].finish


@pytest.mark.parametrize("files", [[], ["model.bin"]])
async def test_a_folder_without_a_model_says_what_to_do(nowhere: Path, files: list[str]) -> None:
    (nowhere / "empty").mkdir()
    for name in files:
        (nowhere / "empty" / name).touch()
    for path in ("missing", "empty"):
        with pytest.raises(ConfigError, match=r"path: .*tools\.convert"):
            await CTranslate2(CTranslate2.Options(path=path)).load()


async def test_an_engine_that_did_not_load_can_be_closed() -> None:
    await CTranslate2(CTranslate2.Options(path="missing")).close()


def test_nothing_heavy_is_imported_before_load() -> None:
    code = "import sys, deployments.llm; print({'ctranslate2', 'tokenizers', 'numpy', 'jinja2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_process_can_end_in_the_middle_of_a_run() -> None:
    """Without closing anything, and without a crash."""
    code = f"""
import asyncio
from deployments.llm import CTranslate2
from tests.deployments.subjects import example
from serve_app.types import Kind

async def main():
    engine = CTranslate2(CTranslate2.Options(path="{NANO}"), slots=2)
    await engine.load()
    runs = [engine.run(example(Kind.CHAT, n=4, temperature=50.0)) for _ in range(4)]
    for run in runs:
        await anext(run)

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)
