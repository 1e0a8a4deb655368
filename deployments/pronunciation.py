"""Pronunciation scoring: a reading is heard, and its sounds are laid over those of the text that was to be read."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field

from deployments.sounds.posteriors import STEP_S, Heard, Sounds
from deployments.sounds.reference import ReferenceWord, reference
from deployments.sounds.scoring import Scored, score
from deployments.sounds.text import Reading
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, EngineFailed
from serve_app.types import Artifact, Done, Event, Job, Kind, Pronunciation, Transcription, Usage

LANGUAGES = ("ko", "en")


class PronunciationScore(Engine):
    """Answers with an artifact `pronunciation`; its parts are described in `deployments/sounds/scoring.py`.

    The engine that hears should give the probabilities of phones (artifact `sounds`): a recogniser alone writes words
    that exist, and so repairs what was mispronounced. Without them the words of the transcript are compared, by their
    sounds, and the answer says so (`basis`).
    """

    class Options(EngineOptions):
        max_reference: int = Field(default=1000, ge=1)
        """Characters of the reference text."""
        hear: str = "auto"
        """The model that hears."""

    options: Options
    kinds = frozenset({Kind.PRONUNCIATION})
    needs = {"hear": Kind.TRANSCRIPTION}  # noqa: RUF012 - declared as a ClassVar by Engine

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        payload = job.payload
        assert isinstance(payload, Pronunciation)
        words, reading = self._reference(payload)
        heard = await self._hear(job, payload)
        began = time.perf_counter()
        result = await asyncio.to_thread(_result, payload, words, reading, heard)
        scored_s = time.perf_counter() - began
        yield Artifact("pronunciation", "application/json", json.dumps(result, ensure_ascii=False).encode())
        yield Done(replace(heard.usage, engine_s=heard.usage.engine_s + scored_s))

    def _reference(self, payload: Pronunciation) -> tuple[list[ReferenceWord], Reading]:
        """Raises BadRequest."""
        if payload.language not in LANGUAGES:
            raise BadRequest("language must be ko or en: only their pronunciation is scored.", param="language")
        if len(payload.reference) > self.options.max_reference:
            raise BadRequest(
                f"reference_text may have at most {self.options.max_reference} characters.", param="reference_text"
            )
        words, reading = reference(payload.reference, payload.language)
        if not words:
            raise BadRequest(
                "reference_text has no words in Hangul or Latin letters. Send the sentence that was read.",
                param="reference_text",
            )
        return words, reading

    async def _hear(self, job: Job, payload: Pronunciation) -> "_Hearing":
        asked = Transcription(payload.audio, language=payload.language, words=True)
        wish = replace(job.wish, model=self.options.hear, whole=True)
        hearing = _Hearing()
        listening = replace(
            job, id=f"{job.id}.hear", kind=Kind.TRANSCRIPTION, payload=asked, wish=wish, plan=(), model=None
        )
        async with aclosing(self.handlers["hear"](listening)) as events:
            async for event in events:
                match event:
                    case Artifact(name, _, data):
                        hearing.artifacts[name] = data
                    case Done(usage):
                        hearing.usage = usage
        if "transcript" not in hearing.artifacts:
            raise EngineFailed("The engine that hears has given no transcript; try again.")
        return hearing


@dataclass(slots=True)
class _Hearing:
    artifacts: dict[str, bytes] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


def _result(payload: Pronunciation, words: list[ReferenceWord], reading: Reading, heard: _Hearing) -> dict[str, Any]:
    transcript = json.loads(heard.artifacts["transcript"])
    packed = heard.artifacts.get("sounds")
    sounds = Sounds.unpack(packed) if packed else None
    sequence = sounds.heard() if sounds else _of_words(transcript, payload.language)
    scored = score(words, sequence, sounds)
    return {
        "transcription": " ".join(segment["text"] for segment in transcript["segments"]),
        "accuracy": scored.accuracy,
        "language": payload.language,
        "duration_s": transcript["duration"],
        "word_details": scored.words,
        "fluency": scored.fluency,
        "basis": "sounds" if sounds else "words",
        "notes": _notes(reading, sequence, scored),
    }


def _notes(reading: Reading, sequence: list[Heard], scored: Scored) -> list[str]:
    notes = []
    if not sequence:
        notes.append("No speech was heard in the recording.")
    elif scored.accuracy < 20:
        notes.append("Hardly anything of the reference was heard; perhaps something else was said.")
    if reading.ignored:
        notes.append("What cannot be read aloud in the reference (emoji, other scripts) was left out.")
    return notes


def _of_words(transcript: dict[str, Any], language: str) -> list[Heard]:
    """The sounds that the transcript's words should have, spread evenly over the time of each word."""
    import numpy as np

    found: list[Heard] = []
    for word in transcript["words"] or ():
        said, _ = reference(word["word"], language)
        units = [unit for part in said for unit in part.ways[0].units]
        first, length = word["start"] / STEP_S, (word["end"] - word["start"]) / STEP_S
        for at, unit in enumerate(units):
            start = int(first + length * at / len(units))
            end = max(start, int(first + length * (at + 1) / len(units)) - 1)
            found.append(Heard(unit.phone, start, end, float(np.log(max(word["probability"], 1e-3)))))
    return found
