"""faster-whisper and the phone head beside a model, chunk by chunk."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.hearing import guards
from deployments.hearing.chunks import Chunk
from deployments.hearing.guards import Said
from deployments.sounds.posteriors import PhoneHead, Sounds
from deployments.sounds.wordtimes import word_times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BEHIND = 100
"""Frames of nothing behind a chunk when only its sounds are asked for; the model is used to far more."""
LATE = 12
"""Rows of 20 ms behind the end in which the last sound may still be named."""


@dataclass(frozen=True, slots=True)
class Ask:
    language: str | None
    translate: bool
    prompt: str
    temperatures: tuple[float, ...]
    beam_size: int
    words: bool


@dataclass(frozen=True, slots=True)
class Word:
    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment in seconds from the beginning of the recording, or why there is none (`dropped`)."""

    said: Said
    words: tuple[Word, ...] = ()
    dropped: str | None = None


@dataclass(slots=True)
class Heard:
    """What one chunk has told beside its segments."""

    language: str = ""
    language_probability: float = 0.0
    sounds: "NDArray[np.float32] | None" = None
    pieces: list[Piece] = field(default_factory=list)


class Recogniser:
    """Safe to be used from several threads at once; `workers` of them really run at the same time."""

    def __init__(
        self, folder: Path, device: str, compute_type: str, threads: int, workers: int, tail_s: float | None = None
    ) -> None:
        from deployments.hearing.window import model_class

        self.model = model_class(tail_s)(
            str(folder),
            device=device,
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=workers,
            local_files_only=True,
        )
        self.device: str = self.model.model.device
        self.languages = _languages(folder)
        self.head = PhoneHead.open(folder)

    def recognise(self, chunk: Chunk, ask: Ask, stop: threading.Event) -> Heard:
        """Segments of a chunk; none of them further when `stop` is set."""
        segments, info = self.model.transcribe(
            chunk.samples,
            language=ask.language,
            task="translate" if ask.translate else "transcribe",
            beam_size=ask.beam_size,
            temperature=list(ask.temperatures),
            condition_on_previous_text=False,
            initial_prompt=ask.prompt or None,
            word_timestamps=ask.words and self.head is None,
            max_new_tokens=guards.most_tokens(chunk.seconds),
            vad_filter=False,
        )
        heard = Heard(info.language, float(info.language_probability))
        for segment in segments:
            heard.pieces.append(_piece(segment, chunk))
            if stop.is_set():
                return heard
        if ask.words and self.head is not None:
            self._with_sounds(heard, chunk)
        return heard

    def recognise_many(self, chunks: list[Chunk], ask: Ask, stop: threading.Event) -> Heard:
        """Several chunks as one batch, for a GPU. There is one segment per chunk, and no second try."""
        import numpy as np
        from faster_whisper import BatchedInferencePipeline  # type: ignore[import-untyped]

        clips, at = [], 0.0
        for chunk in chunks:
            clips.append({"start": at, "end": at + chunk.seconds})
            at += chunk.seconds
        segments, info = BatchedInferencePipeline(self.model).transcribe(
            np.concatenate([chunk.samples for chunk in chunks]),
            language=ask.language,
            task="translate" if ask.translate else "transcribe",
            beam_size=ask.beam_size,
            temperature=ask.temperatures[0],
            initial_prompt=ask.prompt or None,
            word_timestamps=ask.words,
            max_new_tokens=guards.most_tokens(max(chunk.seconds for chunk in chunks)),
            vad_filter=False,
            clip_timestamps=clips,
            batch_size=len(chunks),
        )
        heard = Heard(info.language, float(info.language_probability))
        for segment in segments:
            index = max(n for n, clip in enumerate(clips) if clip["start"] <= segment.start + 1e-3)
            heard.pieces.append(
                _piece(segment, Chunk(chunks[index].samples, chunks[index].start_s - clips[index]["start"]))
            )
            if stop.is_set():
                break
        return heard

    def sounds(self, chunk: Chunk) -> "NDArray[np.float32]":
        """Log probabilities of phones, [frames of 20 ms, phones]."""
        import numpy as np

        assert self.head is not None
        features = self.model.feature_extractor(chunk.samples)[:, :-1]
        frames = features.shape[1] // 2 + LATE
        longest = self.model.feature_extractor.nb_max_frames
        padded = np.pad(features, ((0, 0), (0, BEHIND)))[:, :longest]
        padded = padded[:, : padded.shape[1] // 2 * 2]
        encoded = np.array(self.model.encode(padded))[0]
        return self.head(encoded[:frames])

    def _with_sounds(self, heard: Heard, chunk: Chunk) -> None:
        assert self.head is not None
        heard.sounds = self.sounds(chunk)
        sounds = Sounds(heard.sounds, self.head.names)
        kept = [piece for piece in heard.pieces if not piece.dropped]
        times = word_times(" ".join(piece.said.text.strip() for piece in kept), heard.language, sounds)
        words = [Word(w.word, w.start + chunk.start_s, w.end + chunk.start_s, w.probability) for w in times]
        heard.pieces = [*_with_words(kept, words), *(piece for piece in heard.pieces if piece.dropped)]


def _with_words(pieces: list[Piece], words: list[Word]) -> Iterator[Piece]:
    """Words go to the segments in whose text they stand; a segment begins and ends with its words."""
    rest = list(words)
    for at, piece in enumerate(pieces):
        count = len(rest) if at == len(pieces) - 1 else min(len(rest), len(piece.said.text.split()))
        own, rest = rest[:count], rest[count:]
        yield Piece(piece.said, tuple(own))


def _piece(segment: Any, chunk: Chunk) -> Piece:
    said = Said(
        start=float(segment.start) + chunk.start_s,
        end=min(float(segment.end), max(chunk.seconds, float(segment.start))) + chunk.start_s,
        text=segment.text,
        tokens=len(segment.tokens),
        avg_logprob=float(segment.avg_logprob),
        no_speech_prob=float(segment.no_speech_prob),
        compression_ratio=float(segment.compression_ratio),
        temperature=float(segment.temperature or 0.0),
    )
    words = tuple(
        Word(
            word.word.strip(),
            float(word.start) + chunk.start_s,
            float(word.end) + chunk.start_s,
            float(word.probability),
        )
        for word in segment.words or ()
    )
    return Piece(said, words, guards.objection(said))


def _languages(folder: Path) -> frozenset[str]:
    """Those that the model was made for: the converter writes their tokens into config.json."""
    ids = set(json.loads((folder / "config.json").read_text("utf-8")).get("lang_ids", ()))
    vocabulary = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    return frozenset(vocabulary[number][2:-2] for number in ids if number < len(vocabulary))
