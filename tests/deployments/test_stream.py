import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from deployments.text.stream import Choice, StopMatcher
from tests.deployments.conftest import LINES

letters = st.text("abc", max_size=12)


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The rule, letter by letter: the first stop string to be completed ends the text where it begins."""
    for end in range(1, len(text) + 1):
        completed = [stop for stop in stops if text[:end].endswith(stop)]
        if completed:
            return text[: end - max(map(len, completed))], True
    return text, False


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    text = "".join([matcher.push(piece) for piece in pieces]) + matcher.flush()
    return text, matcher.matched


@given(st.lists(letters, max_size=8), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_stop_strings_work_however_the_text_is_split(pieces: list[str], stops: list[str]) -> None:
    assert shown(pieces, stops) == cut("".join(pieces), stops)


def test_every_split_of_one_text() -> None:
    text, stops = "정답은 12. 끝\n\nUser:", ["끝\n", "\n\nUser"]
    for size in range(4):
        for at in combinations(range(1, len(text)), size):
            pieces = [text[a:b] for a, b in zip((0, *at), (*at, len(text)), strict=True)]
            assert shown(pieces, stops) == ("정답은 12. ", True)


@given(letters, st.text("abc", min_size=1, max_size=4))
def test_no_more_is_held_back_than_could_become_a_stop_string(text: str, stop: str) -> None:
    matcher = StopMatcher([stop])
    visible = matcher.push(text)
    if not matcher.matched:
        assert stop.startswith(text[len(visible) :])


def choice(tokenizer: Tokenizer, *stops: str) -> Choice:
    stream = DecodeStream(skip_special_tokens=True)
    return Choice(0, lambda token: stream.step(tokenizer, token), stops)


@pytest.mark.parametrize("text", [*LINES, "한국어와 English, 👩‍🚀🇰🇷 섞어서"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_no_character_is_split(tokenizer: Tokenizer, text: str, batch: int) -> None:
    ids = tokenizer.encode(text).ids
    answer, texts = choice(tokenizer), []
    for start in range(0, len(ids), batch):
        for token in ids[start : start + batch]:
            answer.push(token)
        if delta := answer.delta():
            texts.append(delta.text)
    answer.end("stop")
    assert "".join(texts) == tokenizer.normalizer.normalize_str(text)
    assert not any("\ufffd" in piece for piece in texts)


def test_deltas_count_every_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("안녕 12 END more").ids
    answer, counted = choice(tokenizer, "END"), 0
    for token in ids:
        answer.push(token)
        if delta := answer.delta():
            counted += delta.tokens
    answer.end("length")
    last = answer.delta(last=True)
    assert answer.finish == "stop"
    assert counted + (last.tokens if last else 0) == answer.tokens < len(ids)


def test_any_tokens_at_all_can_be_streamed(tokenizer: Tokenizer) -> None:
    """A badly trained model may produce bytes that are no text."""
    numbers = random.Random(1)
    for _ in range(200):
        ids = [numbers.randrange(tokenizer.get_vocab_size()) for _ in range(30)]
        answer = choice(tokenizer)
        for token in ids:
            answer.push(token)
        answer.end("length")
        delta = answer.delta(last=True)
        assert delta is not None
        assert tokenizer.decode(ids).startswith(delta.text)
