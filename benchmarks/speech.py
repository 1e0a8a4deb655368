"""What the speech engine costs over faster-whisper called directly.

`python -m benchmarks.speech` has the synthesiser read sentences, and recognises them in turns: once with faster-whisper
as its documentation shows it (decoding included, voice activity detection on), once with the engine as the service uses
it, which decodes in a confined process. One after the other, then as many at a time as there are slots. Last, what the
scoring of a pronunciation adds to hearing it.
"""

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel

from benchmarks.overhead import HERE, described
from deployments.pronunciation import PronunciationScore
from deployments.speech import PROJECT, FasterWhisper
from serve_app.types import Artifact, Job, Kind, Media, Pronunciation, Transcription
from tools.nano_whisper import data
from tools.nano_whisper.voice import RATE, Voice

RESULTS = HERE / "results" / "speech.json"
MODEL = "models/nano-whisper"
SLOTS = 2
LEAST_RATIO, MOST_S = 0.9, 0.05
EMBEDDED = "as the embedded profile runs it"
WAYS: dict[str, dict[str, Any]] = {"windows of 30 s, as public models need": {}, EMBEDDED: {"chunk_s": 12, "tail_s": 1}}
"""In windows as long as those of faster-whisper, and in the shorter ones that the nano model is trained for."""
TEXT = "오늘 학교에서 밥을 먹었어요."


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="speech-") as folder:
        files = [_recorded(Path(folder) / f"{n}.wav", n, options.seconds) for n in range(options.files)]
        result = asyncio.run(_measured(files, _recorded_text(Path(folder) / "text.wav"), options.rounds))
    result["met"] = {
        f"at least {LEAST_RATIO} x faster-whisper": min(result["ratio"].values()) >= LEAST_RATIO,
        f"scoring adds at most {MOST_S} s": result["scoring_s"] <= MOST_S,
    }
    print(json.dumps(result, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(described("benchmarks.speech") | result, indent=2) + "\n")
    sys.exit(not all(result["met"].values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10, help="length of each file, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args()


async def _measured(files: list[Media], text: Media, rounds: int) -> dict[str, Any]:
    stock = WhisperModel(str(PROJECT / MODEL), device="cpu", compute_type="int8", cpu_threads=1, num_workers=SLOTS)
    results: dict[str, Any] = {"seconds_of_sound": round(sum(media.size for media in files) / 2 / RATE, 1), "ratio": {}}
    for name, changes in WAYS.items():
        engine = await _engine(**changes)
        for at_a_time in (1, SLOTS):
            ratios = []
            for _ in range(rounds):
                direct = await _timed(files, at_a_time, lambda media: asyncio.to_thread(_directly, stock, media))
                ours = await _timed(files, at_a_time, lambda media, engine=engine: _by_engine(engine, media))
                ratios.append(direct / ours)
            results["ratio"][f"{name}, {at_a_time} at a time"] = round(statistics.median(ratios), 2)
        if name == EMBEDDED:
            results["scoring_s"] = round(await _scoring(engine, text, rounds), 4)
        await engine.close()
    return results


async def _engine(**changes: Any) -> FasterWhisper:
    options = {"path": MODEL, "device": "cpu", "compute_type": "int8", "threads": 1, "beam_size": 1}
    engine = FasterWhisper(FasterWhisper.Options.model_validate(options | changes), slots=SLOTS)
    await engine.load()
    return engine


async def _timed(files: list[Media], at_a_time: int, work: Callable[[Media], Awaitable[Any]]) -> float:
    room = asyncio.Semaphore(at_a_time)

    async def one(media: Media) -> None:
        async with room:
            await work(media)

    began = time.perf_counter()
    await asyncio.gather(*(one(media) for media in files))
    return time.perf_counter() - began


def _directly(model: WhisperModel, media: Media) -> str:
    segments, _ = model.transcribe(
        media.path, beam_size=1, vad_filter=True, condition_on_previous_text=False, temperature=[0.0, 0.2, 0.4]
    )
    return "".join(segment.text for segment in segments)


async def _by_engine(engine: FasterWhisper, media: Media) -> None:
    async for _ in engine.run(Job("job", Kind.TRANSCRIPTION, Transcription(media))):
        pass


async def _scoring(engine: FasterWhisper, media: Media, rounds: int) -> float:
    """Seconds between the ear's last event and the score."""
    judge, spent = PronunciationScore(PronunciationScore.Options(), {"hear": engine.run}), []
    for _ in range(rounds + 1):
        hearing_s = 0.0
        began = time.perf_counter()
        async for event in judge.run(Job("job", Kind.PRONUNCIATION, Pronunciation(media, TEXT))):
            if isinstance(event, Artifact):
                continue
            hearing_s = time.perf_counter() - began
        heard = time.perf_counter()
        async for _ in engine.run(Job("job", Kind.TRANSCRIPTION, Transcription(media, language="ko", words=True))):
            pass
        spent.append(hearing_s - (time.perf_counter() - heard))
    return statistics.median(spent[1:])


def _recorded(path: Path, number: int, seconds: float) -> Media:
    rng, voice = random.Random(f"benchmark {number}"), Voice()
    language, pieces = ("ko", "en")[number % 2], list[Any]()
    while sum(map(len, pieces)) < seconds * RATE:
        pieces += [data.speak(rng, voice, data.real(rng, voice, language)), np.zeros(RATE // 2, np.float32)]
    return _saved(path, np.concatenate(pieces))


def _recorded_text(path: Path) -> Media:
    rng, voice = random.Random("text"), Voice()
    return _saved(path, data.speak(rng, voice, data.line_of(voice, "ko", TEXT)))


def _saved(path: Path, pcm: Any) -> Media:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    content = path.read_bytes()
    return Media(str(path), hashlib.sha256(content).hexdigest(), len(content), "audio/wav")


if __name__ == "__main__":
    main()
