"""The real engine with the real small model, on speech and on what is none."""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.speech import FasterWhisper
from serve_app.errors import BadRequest, ConfigError, MegaCityError
from serve_app.types import Artifact, Delta, Done, Event, Job, Kind, Media, Transcription
from tests.media.making import silence
from tests.speech.speaking import recording, spoken
from tools.nano_whisper import data
from tools.nano_whisper.evaluate import distance, plain
from tools.nano_whisper.voice import RATE

KOREAN = "오늘 학교에서 밥을 먹었어요."
ENGLISH = "The teacher found the book at school."
MOST_WRONG = 0.2  # of the letters: how well the nano model hears is for its card to say, and this is one sentence


def job(audio: Media, **how: Any) -> Job:
    return Job("job", Kind.TRANSCRIPTION, Transcription(audio, **how))


async def heard(engine: FasterWhisper, audio: Media, **how: Any) -> tuple[str, dict[str, Any], Done]:
    events = [event async for event in engine.run(job(audio, **how))]
    text = "".join(event.text for event in events if isinstance(event, Delta))
    artifacts = {event.name: event.data for event in events if isinstance(event, Artifact)}
    done = events[-1]
    assert isinstance(done, Done)
    return text, json.loads(artifacts["transcript"]), done


@pytest.mark.parametrize(("text", "language"), [(KOREAN, "ko"), (ENGLISH, "en")])
async def test_speech_is_written_down(ears: FasterWhisper, tmp_path: Path, text: str, language: str) -> None:
    pcm = spoken(text, language)
    said, transcript, done = await heard(ears, recording(tmp_path, pcm))
    assert distance("".join(plain(said)), "".join(plain(text))) <= MOST_WRONG * len("".join(plain(text)))
    assert transcript["language"] == language
    assert transcript["duration"] == pytest.approx(len(pcm) / RATE, abs=0.01)
    assert transcript["words"] is None
    assert done.usage.audio_s == pytest.approx(len(pcm) / RATE, abs=0.01)
    assert done.usage.engine_s > 0


async def test_words_have_their_times(ears: FasterWhisper, tmp_path: Path) -> None:
    pcm = np.concatenate([np.zeros(RATE, np.float32), spoken(ENGLISH, "en")])
    said, transcript, _ = await heard(ears, recording(tmp_path, pcm), words=True, language="en")
    words = transcript["words"]
    assert [word["word"] for word in words] == [word.strip(".") for word in said.split()]
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert starts[0] == pytest.approx(1.0, abs=0.25)
    assert words[-1]["end"] <= len(pcm) / RATE + 0.1
    assert transcript["segments"][0]["start"] == words[0]["start"]


@pytest.mark.parametrize("vad", [True, False])
@pytest.mark.parametrize("what", ["silence", "noise", "hum"])
async def test_what_is_no_speech_is_left_out(ears: FasterWhisper, tmp_path: Path, what: str, vad: bool) -> None:
    time_s = np.arange(4 * RATE) / RATE
    sounds = {
        "silence": np.zeros(4 * RATE),
        "noise": 0.05 * data.coloured(random.Random(1), 4 * RATE),
        "hum": 0.2 * np.sin(2 * np.pi * 110 * time_s) + 0.1 * np.sin(2 * np.pi * 165 * time_s),
    }
    said, transcript, _ = await heard(ears, recording(tmp_path, sounds[what].astype(np.float32)), vad=vad)
    assert said == ""
    assert transcript["segments"] == []
    assert transcript["language"] is None


async def test_a_long_recording_comes_in_pieces_and_in_order(ears: FasterWhisper, tmp_path: Path) -> None:
    gap = np.zeros(2 * RATE, np.float32)
    pcm = np.concatenate([part for seed in range(14) for part in (spoken(KOREAN, "ko", seed), gap)])
    _, transcript, _ = await heard(ears, recording(tmp_path, pcm), language="ko")
    starts = [segment["start"] for segment in transcript["segments"]]
    assert len(starts) >= 10
    assert starts == sorted(starts)
    assert transcript["segments"][-1]["end"] <= len(pcm) / RATE + 0.1
    assert sum("학교" in segment["text"] for segment in transcript["segments"]) >= 5


async def test_six_hours_of_silence_are_refused(ears: FasterWhisper, tmp_path: Path) -> None:
    path = silence(tmp_path / "night.flac", 6 * 3600)
    began = time.perf_counter()
    with pytest.raises(MegaCityError) as refused:
        await heard(ears, Media(str(path), "0" * 64, path.stat().st_size))
    assert refused.value.status == 413
    assert time.perf_counter() - began < 60


async def test_several_at_once_do_not_mix(ears: FasterWhisper, tmp_path: Path) -> None:
    texts = [(KOREAN, "ko"), (ENGLISH, "en"), ("생일 축하해요.", "ko"), ("Happy birthday.", "en")]
    media = [recording(tmp_path, spoken(t, lang), f"{at}.wav") for at, (t, lang) in enumerate(texts)]
    alone = [(await heard(ears, audio))[0] for audio in media]
    together = await asyncio.gather(*(heard(ears, audio) for audio in media))
    assert [text for text, _, _ in together] == alone


async def test_closing_frees_the_slots(ears: FasterWhisper, tmp_path: Path) -> None:
    pcm = np.concatenate([spoken(KOREAN, "ko", seed) for seed in range(12)])
    audio = recording(tmp_path, pcm)
    short = recording(tmp_path, spoken("생일 축하해요.", "ko"), "short.wav")
    runs = [ears.run(job(audio)) for _ in range(4)]
    started = [asyncio.ensure_future(anext(run)) for run in runs]
    await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)
    for run in runs:
        await _close(run)
    began = time.perf_counter()
    await heard(ears, short)
    assert time.perf_counter() - began < 5  # a slot is free after a second; the rest is decoding and recognising


async def _close(run: AsyncGenerator[Event]) -> None:
    await run.aclose()


@pytest.mark.parametrize(
    ("how", "param"),
    [({"language": "ja"}, "language"), ({"translate": True}, None), ({"temperature": 2.0}, "temperature")],
)
async def test_what_the_model_cannot_do_is_said_before_it_is_tried(
    ears: FasterWhisper, tmp_path: Path, how: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(BadRequest) as refused:
        await anext(ears.run(job(recording(tmp_path, np.zeros(RATE, np.float32)), **how)))
    assert refused.value.param == param


async def test_a_missing_gpu_is_an_error_unless_the_cpu_may_stand_in() -> None:
    options = {"path": "models/nano-whisper", "device": "cuda"}
    strict = FasterWhisper(FasterWhisper.Options.model_validate(options))
    with pytest.raises(ConfigError, match="device"):
        await strict.load()
    lenient = FasterWhisper(FasterWhisper.Options.model_validate(options | {"cpu_fallback": True}))
    await lenient.load()
    await lenient.close()


async def test_a_folder_without_a_model_is_named() -> None:
    engine = FasterWhisper(FasterWhisper.Options(path="models/none"))
    with pytest.raises(ConfigError, match="models/none"):
        await engine.load()
    await engine.close()
