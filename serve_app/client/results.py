"""What callers get. Times are in seconds; `raw` is all that was measured, as `/docs` describes it for the routes.

`route` says in one short line why this model was chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from serve_app.types import Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `finish_reason` is `length` if it was cut at `max_tokens`."""

    text: str
    model: str
    version: str
    route: str
    usage: Usage
    finish_reason: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where a result comes from."""

    model: str
    version: str
    route: str
    cost_usd: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of what was said, and when."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """`words` is empty unless they were asked for; `language` is `None` if nobody spoke."""

    text: str
    language: str | None
    duration_s: float
    segments: tuple[Span, ...]
    words: tuple[Span, ...]
    raw: Mapping[str, Any] = field(repr=False)
    source: Source


@dataclass(frozen=True, slots=True)
class WordScore:
    """`status` is `correct`, `substituted`, `missing` or `extra`; `accuracy` is from 0 to 100."""

    word: str
    reference: str
    status: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class PronunciationScore:
    """`accuracy` is from 0 to 100; single sounds, pauses and rate are in `raw`."""

    accuracy: float
    transcription: str
    words: tuple[WordScore, ...]
    raw: Mapping[str, Any] = field(repr=False)
    source: Source


@dataclass(frozen=True, slots=True)
class DanceScore:
    """`score` is from 0 to 100, `feedback` sentences in the language that was asked for, `heatmap` a PNG.

    There is no `heatmap` if it could not be fetched; the rest is whole.
    """

    score: float
    mirrored: bool
    feedback: tuple[str, ...]
    report: str
    heatmap: bytes | None = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False)
    source: Source


class Sound(bytes):
    """A sound file, as bytes that know how long they last."""

    format: str
    duration_s: float
    characters: int
    source: Source

    @classmethod
    def of(cls, data: bytes, sound_format: str, usage: Usage, source: Source) -> Self:
        sound = cls(data)
        sound.format, sound.source = sound_format, source
        sound.duration_s, sound.characters = usage.audio_s, usage.characters
        return sound

    def __repr__(self) -> str:
        return f"<Sound: {self.format}, {len(self)} bytes, {self.duration_s:g} s>"


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is kept. The same bytes added to a collection again are the same document."""

    id: str
    name: str
    bytes: int
    characters: int
    passages: int
    source: Source


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage of a document. The answer refers to it as `[index]` if it is `cited`; `score` is from 0 to 1."""

    index: int
    document_id: str
    name: str
    text: str
    page: int | None
    score: float
    cited: bool


@dataclass(frozen=True, slots=True)
class DocumentAnswer:
    """If the documents hold no answer, `found` is false and `text` says so."""

    text: str
    found: bool
    citations: tuple[Citation, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Advice:
    """What to improve in a movement. `compared_with` is `reference`, or `mirror`: its left against its right."""

    text: str
    score: float
    compared_with: str
    raw: Mapping[str, Any] = field(repr=False)
    source: Source
