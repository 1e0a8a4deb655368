"""The engine: formats, styles, speeds, voices, languages, and its manners."""

import asyncio
import io
import time
import wave
from typing import Any

import av
import numpy as np
import pytest

from deployments.tts import ESpeak
from serve_app.errors import BadRequest
from serve_app.types import Artifact, Job, Kind, Speech
from tests.pace import within
from tests.tts.hearing import Samples, file_of, heard, pitches, spread

TEXT = "안녕하세요, 저는 춤을 정말 좋아해요. 오늘은 날씨가 좋네요!"
MUXERS = {"mp3": ("mp3", "mp3float"), "opus": ("ogg", "opus"), "aac": ("aac", "aac"), "flac": ("flac", "flac")}


@pytest.mark.parametrize("format", ["wav", "pcm", "mp3", "opus", "aac", "flac"])
async def test_every_format_holds_what_was_said(voice: ESpeak, format: str) -> None:
    data, done, pieces = await file_of(voice, TEXT, format)
    assert pieces > 1
    assert done.usage.characters == len(TEXT)
    if format == "pcm":
        seconds = len(data) / 2 / voice.rate
    elif format == "wav":
        with wave.open(io.BytesIO(data)) as file:
            seconds = len(file.readframes(10**8)) / 2 / voice.rate
    else:
        muxer, codec = MUXERS[format]
        with av.open(io.BytesIO(data), format=muxer) as container:
            assert container.streams.audio[0].codec_context.codec.name == codec
            frames = list(container.decode(audio=0))
        seconds = sum(frame.samples for frame in frames) / frames[0].sample_rate
    assert seconds == pytest.approx(done.usage.audio_s, abs=0.1)
    assert 4 < seconds < 8


async def test_styles_are_heard(voice: ESpeak) -> None:
    sound = {style: await heard(voice, TEXT, style=style) for style in ("neutral", "happy", "sad", "angry", "calm")}
    high = {style: float(np.median(pitches(samples, voice.rate))) for style, samples in sound.items()}
    lively = {style: spread(pitches(samples, voice.rate)) for style, samples in sound.items()}
    long = {style: len(samples) for style, samples in sound.items()}
    loud = {style: float(np.sqrt((samples**2).mean())) for style, samples in sound.items()}
    assert high["happy"] > 1.1 * high["neutral"] > 1.1 * 1.1 * high["sad"]
    assert lively["happy"] > 1.3 * lively["neutral"] > 1.3 * 1.3 * lively["sad"]
    assert long["angry"] < 0.95 * long["neutral"] < 0.95 * 0.95 * long["calm"]
    assert loud["angry"] > loud["neutral"] > loud["calm"] > loud["sad"]
    assert max(np.abs(samples).max() for samples in sound.values()) < 1, "nothing is clipped"


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
async def test_speed_is_what_was_asked_for(voice: ESpeak, speed: float) -> None:
    normal, other = await heard(voice, TEXT), await heard(voice, TEXT, speed=speed)
    assert len(normal) / len(other) == pytest.approx(speed, rel=0.12)
    if speed < 1:
        pitch = np.median(pitches(normal, voice.rate))
        assert np.median(pitches(other, voice.rate)) == pytest.approx(pitch, rel=0.1)


async def test_voices_differ_and_an_unknown_one_is_the_default(voice: ESpeak) -> None:
    high, low = [np.median(pitches(await heard(voice, TEXT, voice=name), voice.rate)) for name in ("nova", "Onyx")]
    assert high > 1.3 * low
    assert same(await heard(voice, TEXT, voice="somebody"), await heard(voice, TEXT))


@pytest.mark.parametrize(
    ("text", "language"), [("안녕하세요", "ko"), ("Good morning", "en"), ("東京に行きます", "ja"), ("你好，世界", "zh")]
)
async def test_the_language_is_found_out(voice: ESpeak, text: str, language: str) -> None:
    found, said = await heard(voice, text), await heard(voice, text, language=language)
    wrong = await heard(voice, text, language="fr")
    assert same(found, said)
    assert not same(found, wrong)


async def test_each_sentence_has_its_own_language(voice: ESpeak) -> None:
    both = await heard(voice, "Good morning. 안녕하세요.")
    apart = [await heard(voice, "Good morning."), await heard(voice, "안녕하세요.")]
    assert same(both, np.concatenate(apart))


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": ""},
        {"input": " ...🙂"},
        {"input": "x" * 4097},
        {"input": "x", "style": "drunk"},
        {"input": "x", "speed": 0.1},
        {"input": "x", "speed": 9},
        {"input": "x", "format": "midi"},
        {"input": "x", "language": "klingon!"},
        {"input": "x", "language": "xx"},
    ],
)
async def test_what_cannot_be_spoken_is_refused_before_the_first_event(voice: ESpeak, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        await anext(voice.run(Job("job", Kind.SPEECH, Speech(**wrong))))


async def test_the_first_piece_comes_before_the_last_sentence_is_spoken(voice: ESpeak) -> None:
    run = voice.run(Job("job", Kind.SPEECH, Speech("This is a sentence. " * 100, format="pcm")))
    first = await anext(run)
    assert isinstance(first, Artifact)
    assert len(first.data) < 10 * 2 * voice.rate
    await run.aclose()


@pytest.mark.parametrize("format", ["wav", "mp3"])
async def test_leaving_frees_the_voice_at_once(voice: ESpeak, format: str) -> None:
    long = Job("job", Kind.SPEECH, Speech("This is a sentence of many. " * 140, format=format))

    async def next_after_those_who_left() -> float:
        for pieces in (0, 1, 3):
            for _ in range(3):
                run = voice.run(long)
                for _ in range(pieces):
                    await anext(run)
                await run.aclose()
        tasks = [asyncio.create_task(file_of(voice, long.payload.text, format)) for _ in range(4)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        started = time.perf_counter()
        await file_of(voice, "Next.", "pcm")
        return time.perf_counter() - started

    await within(1, next_after_those_who_left)


async def test_runs_at_the_same_time_do_not_mix(voice: ESpeak) -> None:
    texts = [f"{'Little ' * number} birds. They are singing. {number}." for number in range(8)]
    alone = [await heard(voice, text) for text in texts]
    together = await asyncio.gather(*(heard(voice, text) for text in texts))
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def same(one: Samples, other: Samples) -> bool:
    """Whether two voices said the same: as long, and as loud from one 50 ms to the next. eSpeak's pitch wavers."""
    if abs(len(one) - len(other)) > 400:
        return False
    loud = [np.abs(samples[: len(samples) // 1100 * 1100]).reshape(-1, 1100).mean(1) for samples in (one, other)]
    length = min(map(len, loud))
    return float(np.corrcoef(loud[0][:length], loud[1][:length])[0, 1]) > 0.9
