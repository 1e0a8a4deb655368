"""Results, made of what the engines have answered."""

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from serve_app.client.results import (
    Advice,
    Citation,
    DanceScore,
    Document,
    DocumentAnswer,
    PronunciationScore,
    Sound,
    Source,
    Span,
    Transcript,
    WordScore,
)
from serve_app.client.way import Found
from serve_app.services.wav import with_length


def transcript(found: Found, source: Source) -> Transcript:
    raw = found.artifacts["transcript"]
    segments, words = _spans(raw["segments"], "text"), _spans(raw["words"] or (), "word")
    return Transcript(found.text, raw["language"], raw["duration"], segments, words, raw, source)


def pronunciation(found: Found, source: Source) -> PronunciationScore:
    raw = found.artifacts["pronunciation"]
    words = tuple(WordScore(**_only(word, "word", "reference", "status", "accuracy")) for word in raw["word_details"])
    return PronunciationScore(raw["accuracy"], raw["transcription"], words, raw, source)


def dance(found: Found, source: Source) -> DanceScore:
    raw, heatmap = found.artifacts["analysis"], found.artifacts["heatmap"]
    return DanceScore(raw["score"], raw["mirrored"], tuple(raw["feedback"]), raw["report"], heatmap, raw, source)


def sound(sound_format: str) -> Callable[[Found, Source], Sound]:
    def shape(found: Found, source: Source) -> Sound:
        return Sound.of(with_length(found.artifacts["audio"]), sound_format, found.usage, source)

    return shape


def vectors(count: int) -> Callable[[Found, Source], list[list[float]]]:
    """The rows come one after another, in little-endian float32, as does everything that this runs on."""

    def shape(found: Found, _: Source) -> list[list[float]]:
        numbers = array("f", found.artifacts["embeddings"])
        size = len(numbers) // count
        return [numbers[size * row : size * (row + 1)].tolist() for row in range(count)]

    return shape


def document(found: Found, source: Source) -> Document:
    card = _only(found.artifacts["document"], "id", "name", "bytes", "characters", "passages")
    return Document(**card, source=source)


def cited(found: Found, source: Source) -> DocumentAnswer:
    raw, names = found.artifacts["citations"], ("index", "document_id", "name", "text", "page", "score", "cited")
    citations = tuple(Citation(**_only(one, *names)) for one in raw["citations"])
    return DocumentAnswer(found.text, raw["found"], citations, source)


def advice(found: Found, source: Source) -> Advice:
    raw = found.artifacts["motion"]
    return Advice(found.text, raw["score"], raw["compared_with"], raw, source)


def _spans(found: Iterable[Mapping[str, Any]], text: str) -> tuple[Span, ...]:
    return tuple(Span(one[text], one["start"], one["end"]) for one in found)


def _only(found: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: found[name] for name in names}
