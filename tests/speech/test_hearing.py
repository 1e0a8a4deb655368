"""Cutting and guarding, piece by piece."""

import numpy as np
import pytest

from deployments.hearing import guards
from deployments.hearing.chunks import RATE, Chunker
from deployments.hearing.guards import Said
from tests.speech.speaking import spoken


def said(text: str = "안녕하세요", **how: float) -> Said:
    usual = {"tokens": 5, "avg_logprob": -0.2, "no_speech_prob": 0.01, "compression_ratio": 1.0, "temperature": 0.0}
    return Said(0.0, 2.0, text, **(usual | how))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("segment", "why"),
    [
        (said(), None),
        (said(no_speech_prob=0.7), None),
        (said(no_speech_prob=0.7, avg_logprob=-1.5), "silence"),
        (said(no_speech_prob=0.95), "silence"),
        (said(compression_ratio=2.6), "repetition"),
        (said("네 네 네 네"), None),
        (said("네 네 네 네 네"), "repetition"),
        (said("thank you " * 4), "repetition"),
        (said("one two three four five six seven"), None),
        (said("x" * 200), "silence"),
    ],
)
def test_objections(segment: Said, why: str | None) -> None:
    assert guards.objection(segment) == why


def test_tokens_are_bounded_by_the_time() -> None:
    assert guards.most_tokens(1) < guards.most_tokens(5) < guards.most_tokens(30) <= 224


def test_chunks_hold_all_speech_and_little_else() -> None:
    gap = np.zeros(4 * RATE, np.float32)
    parts = [spoken("오늘 학교에서 밥을 먹었어요.", "ko", seed) for seed in range(8)]
    whole = np.concatenate([piece for part in parts for piece in (part, gap)])
    chunker = Chunker(12.0, vad=True)
    chunks = [c for at in range(0, len(whole), 7 * RATE) for c in chunker.push(whole[at : at + 7 * RATE])]
    chunks += chunker.end()
    assert len(chunks) == 8
    assert all(chunk.seconds <= 12 for chunk in chunks)
    at = 0
    for part, chunk in zip(parts, chunks, strict=True):
        assert chunk.start_s <= at / RATE + 0.5
        assert chunk.start_s + chunk.seconds >= (at + len(part)) / RATE - 0.6
        np.testing.assert_array_equal(chunk.samples, whole[int(chunk.start_s * RATE) :][: len(chunk.samples)])
        at += len(part) + len(gap)


def test_without_looking_for_speech_nothing_is_lost() -> None:
    sound = np.random.default_rng(1).standard_normal(100 * RATE).astype(np.float32)
    chunker = Chunker(10.0, vad=False)
    chunks = [c for at in range(0, len(sound), 30 * RATE) for c in chunker.push(sound[at : at + 30 * RATE])]
    chunks += chunker.end()
    assert all(chunk.seconds <= 10 for chunk in chunks)
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), sound)
