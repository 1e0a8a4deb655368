"""eSpeak NG through its own process: times, languages, what it does with text that is meant to break it."""

import asyncio
import time

import numpy as np
import pytest

from deployments.voice.espeak import Utterance, Voice, synthesise
from deployments.voice.kanji import Reader
from deployments.voice.languages import identified, known
from deployments.voice.sentences import LONGEST, sentences
from serve_app.errors import BadRequest, EngineFailed
from tests.pace import within


async def test_words_have_their_times() -> None:
    spoken = await synthesise(Utterance("Good morning, my 42 friends.", "en-us"))
    assert [word.text for word in spoken.words] == ["Good", "morning,", "my", "42", "friends."]
    assert all(word.start_s < word.end_s for word in spoken.words)
    assert all(before.end_s <= after.start_s for before, after in zip(spoken.words, spoken.words[1:], strict=False))
    pause = spoken.samples[int(spoken.words[1].end_s * spoken.rate) : int(spoken.words[2].start_s * spoken.rate)]
    assert np.abs(pause[200:-200]).max() < 0.02, "between the comma and the next word nothing is heard"
    word = spoken.samples[int(spoken.words[1].start_s * spoken.rate) : int(spoken.words[1].end_s * spoken.rate)]
    assert np.abs(word).max() > 0.1
    assert len(spoken.phonemes) > 10


async def test_korean_words_are_found_by_their_spaces() -> None:
    spoken = await synthesise(Utterance("저는 2026년 K-pop 춤을 좋아해요.", "ko"))
    assert [word.text for word in spoken.words] == ["저는", "2026년", "K-pop", "춤을", "좋아해요."]


async def test_chinese_words_are_what_is_said_in_one_go() -> None:
    spoken = await synthesise(Utterance("你好，世界", "cmn"))
    assert len(spoken.words) >= 3
    assert {word.text for word in spoken.words} <= {"你", "好", "你好", "世", "界", "世界"}


async def test_phonemes_are_read_only_where_they_are_meant() -> None:
    async with Voice() as voice:
        meant = await voice.say(Utterance("[[h@l'oU]]", "en-us", phonemes=True))
        literal = await voice.say(Utterance("[[h@l'oU]]", "en-us"))
    assert "".join(symbol for symbol, _ in meant.phonemes).startswith("h@l'oU")
    assert len(literal.samples) > 1.5 * len(meant.samples)


async def test_a_process_that_dies_is_replaced() -> None:
    async with Voice() as voice:
        assert voice._child
        voice._child._process.kill()
        with pytest.raises(EngineFailed):
            await voice.say(Utterance("Hello."))
        assert len((await voice.say(Utterance("Hello."))).samples) > 1000


async def test_a_cancelled_sentence_does_not_hold_up_the_next() -> None:
    async with Voice() as voice:

        async def next_after_one_who_left() -> float:
            long = asyncio.create_task(voice.say(Utterance("very " * 2000)))
            await asyncio.sleep(0.01)
            long.cancel()
            started = time.perf_counter()
            await voice.say(Utterance("Hello."))
            taken_s = time.perf_counter() - started
            with pytest.raises(asyncio.CancelledError):
                await long
            return taken_s

        await within(1, next_after_one_who_left)


@pytest.mark.parametrize(
    "text",
    [
        "<speak><audio src='/etc/passwd'/></speak>",
        "\ufeff\u202e!",
        "a" * 5000,
        "ﷺ" * 200,
        "👩‍👩‍👧‍👦 1",
        "[[x]]",
        "%s%n" * 50,
    ],
)
async def test_odd_text_is_spoken_or_nothing_is(text: str) -> None:
    async with Voice() as voice:
        for language in ("en-us", "ko", "ja", "cmn"):
            await voice.say(Utterance(text, language))


async def test_a_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadRequest, match="no voice"):
        await synthesise(Utterance("Hello", "xx"))


def test_sentences_end_where_they_do() -> None:
    text = "Dr. Kim met J. Lee at 3.30 today. Really? Yes…"
    assert sentences(text) == ["Dr. Kim met J. Lee at 3.30 today.", "Really?", "Yes…"]
    assert sentences("안녕하세요. 반갑습니다!\n\n다음 줄") == ["안녕하세요.", "반갑습니다!", "다음 줄"]
    assert sentences("今日は。元気？はい") == ["今日は。", "元気？", "はい"]
    assert sentences(" ... !? \n 🙂 ") == []
    assert sentences("a\x00b\ud800c") == ["a b c"]


@pytest.mark.parametrize("text", ["word, " * 300, "가" * 1000, "ab" * 2000])
def test_long_sentences_come_in_parts_that_miss_nothing(text: str) -> None:
    parts = sentences(text)
    assert max(map(len, parts)) <= LONGEST
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def test_languages_are_told_apart_by_their_letters() -> None:
    texts = {"ko": "K-pop 춤 2026", "ja": "東京に行く", "zh": "你好世界", "en": "Hello 2026"}
    assert {language: identified(text) for language, text in texts.items()} == {
        language: language for language in texts
    }
    assert (known("ko_KR"), known("EN-gb"), known("Korean")) == ("ko-kr", "en-gb", "ko")
    with pytest.raises(BadRequest):
        known("../etc")


def test_kanji_are_read() -> None:
    assert Reader().kana("東京に行きます。") == "とうきょうにいきます。"
    assert Reader().kana("今日は、いい天気") == "きょうわ、いいてんき"
    assert Reader().kana("すべてかな") == "すべてかな"
