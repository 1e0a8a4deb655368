"""Speech recognition by faster-whisper: any Whisper that CTranslate2 reads, on a CPU or a GPU."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from deployments.hearing.chunks import RATE, Chunk, Chunker
from deployments.media import Limits, pcm_blocks
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, EngineFailed, MegaCityError
from serve_app.types import Artifact, Delta, Done, Event, Job, Kind, Transcription, Usage

if TYPE_CHECKING:
    from deployments.hearing.recogniser import Ask, Heard, Piece, Recogniser

PROJECT = Path(__file__).parents[1]
REMEDY = "convert a Whisper with `ct2-transformers-converter`, tokenizer.json and preprocessor_config.json included"
LONGEST_SOUNDS_S = 120
SECOND_TRIES = (0.2, 0.4)
T = TypeVar("T")

log = logging.getLogger(__name__)


class FasterWhisper(Engine):
    """Text as it is recognised, piece by piece, then an artifact `transcript`, and `sounds` if words are asked for and
    the model has a phone head: the log probabilities of `deployments.sounds.posteriors.Sounds`.

    A recording is decoded, cut where nobody speaks, and recognised in chunks; at no time is more than about a minute of
    it in memory.
    What the model makes up about silence and noise is left out and counted in `dropped`.
    """

    class Options(EngineOptions):
        path: str
        """Folder of a CTranslate2 Whisper; a relative one counts from the current directory, then from the project."""
        device: Literal["cpu", "cuda", "auto"] = "cpu"
        compute_type: str = "int8"
        """As CTranslate2 names them. On the CPU after a fallback it is always `int8`."""
        cpu_fallback: bool = False
        """Load on the CPU when the GPU is missing or full; the log and every transcript (`device`) say so."""
        threads: int = Field(default=1, ge=0)
        """CPU threads of each run; 0 lets CTranslate2 choose."""
        beam_size: int = Field(default=5, ge=1)
        batch: int = Field(default=1, ge=1)
        """Chunks that a GPU recognises at once."""
        chunk_s: float = Field(default=28.0, gt=1, le=30)
        """The most sound that the model is given at once."""
        max_seconds: float = Field(default=7200.0, gt=0)
        """Longer recordings are refused."""
        tail_s: float | None = Field(default=None, ge=0.5)
        """Seconds of nothing behind a chunk that are enough for the model. Left out, the window is filled up to 30 s,
        which every Whisper from elsewhere wants; the nano model was trained for less, and is far quicker so."""
        translates: bool = False
        """Whether the model was trained to translate into English."""

    options: Options
    kinds = frozenset({Kind.TRANSCRIPTION})

    _recogniser: "Recogniser"
    _workers: ThreadPoolExecutor

    async def load(self) -> None:
        """Raises ConfigError when the folder holds no usable model."""
        self._workers = ThreadPoolExecutor(self.slots, thread_name_prefix="recognise")
        await self._in_thread(self._load)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        payload = job.payload
        assert isinstance(payload, Transcription)
        self._refuse_unusable(payload)
        run = _Run(self._ask(payload))
        try:
            async with aclosing(self._pieces(run, payload)) as pieces:
                async for piece in pieces:
                    yield Delta(piece.said.text if run.texts else piece.said.text.lstrip(), tokens=piece.said.tokens)
                    run.texts += 1
            for artifact in run.artifacts(self._recogniser):
                yield artifact
            yield Done(Usage(completion_tokens=run.tokens, engine_s=run.engine_s, audio_s=run.seconds))
        finally:
            run.stop.set()

    async def check(self) -> None:
        """Recognise a moment of silence: a lost GPU is found out."""
        await self._in_thread(self._warm_up)

    async def close(self) -> None:
        if hasattr(self, "_workers"):
            await asyncio.to_thread(self._workers.shutdown)
        if hasattr(self, "_recogniser"):
            self._recogniser.model.model.unload_model()

    async def _pieces(self, run: "_Run", payload: Transcription) -> AsyncGenerator["Piece"]:
        chunker = Chunker(self.options.chunk_s, payload.vad)
        waiting: list[Chunk] = []
        limits = Limits(seconds=self.options.max_seconds)
        async with aclosing(pcm_blocks(payload.audio, limits)) as blocks:
            async for block in blocks:
                waiting += await self._in_thread(chunker.push, block)
                while len(waiting) >= self.options.batch:
                    async for piece in self._recognised(run, waiting):
                        yield piece
        waiting += await self._in_thread(chunker.end)
        run.seconds = chunker.samples / RATE
        while waiting:
            async for piece in self._recognised(run, waiting):
                yield piece

    async def _recognised(self, run: "_Run", waiting: list[Chunk]) -> AsyncGenerator["Piece"]:
        chunks = waiting[: self.options.batch]
        del waiting[: len(chunks)]
        began = time.perf_counter()
        try:
            heard = await self._in_thread(self._recognise, chunks, run)
        except MegaCityError:
            raise
        except (RuntimeError, ValueError) as fault:  # CTranslate2 has no errors of its own
            raise EngineFailed("The speech engine broke in the middle of a run; try again.") from fault
        run.take(heard, chunks[0], time.perf_counter() - began)
        for piece in heard.pieces:
            if piece.dropped is None and piece.said.text.strip():
                yield piece

    def _recognise(self, chunks: list[Chunk], run: "_Run") -> "Heard":
        from dataclasses import replace

        ask = replace(run.ask, language=run.ask.language or run.language or None)
        if run.stop.is_set():
            raise EngineFailed("The run was closed.")
        if self.options.batch > 1:
            return self._recogniser.recognise_many(chunks, ask, run.stop)
        return self._recogniser.recognise(chunks[0], ask, run.stop)

    def _ask(self, payload: Transcription) -> "Ask":
        from deployments.hearing.recogniser import Ask

        first = payload.temperature
        return Ask(
            language=payload.language,
            translate=payload.translate,
            prompt=payload.prompt,
            temperatures=(first, *(t for t in SECOND_TRIES if t > first)),
            beam_size=self.options.beam_size,
            words=payload.words,
        )

    def _refuse_unusable(self, payload: Transcription) -> None:
        if payload.translate and not self.options.translates:
            raise BadRequest("This model writes what is said and cannot translate it. Use /v1/audio/transcriptions.")
        known = self._recogniser.languages
        if payload.language is not None and payload.language not in known:
            some = ", ".join(sorted(known)[:12]) + (", …" if len(known) > 12 else "")
            raise BadRequest(f"This model does not know that language. It knows {some}.", param="language")
        if not 0 <= payload.temperature <= 1:
            raise BadRequest("temperature must be from 0 to 1.", param="temperature")

    def _load(self) -> None:
        from deployments.hearing.recogniser import Recogniser

        folder, chosen = _folder(self.options.path), self.options
        try:
            self._recogniser = Recogniser(
                folder, chosen.device, chosen.compute_type, chosen.threads, self.slots, chosen.tail_s
            )
        except (RuntimeError, ValueError) as fault:  # no GPU, no room on it, no such compute type
            if not chosen.cpu_fallback or chosen.device == "cpu":
                raise ConfigError(f"device: the model does not load on {chosen.device}: {fault}") from fault
            log.warning("speech: the model does not load on %s; it runs on the CPU, which is slow", chosen.device)
            self._recogniser = Recogniser(folder, "cpu", "int8", chosen.threads, self.slots, chosen.tail_s)
        self._warm_up()

    def _warm_up(self) -> None:
        import numpy as np

        from deployments.hearing.recogniser import Ask

        ask = Ask(next(iter(sorted(self._recogniser.languages))), False, "", (0.0,), 1, False)
        self._recogniser.recognise(Chunk(np.zeros(RATE // 2, np.float32), 0.0), ask, threading.Event())

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)


class _Run:
    """What has come of one recording so far."""

    def __init__(self, ask: "Ask") -> None:
        self.ask = ask
        self.stop = threading.Event()
        self.texts = 0
        self.tokens = 0
        self.seconds = 0.0
        self.engine_s = 0.0
        self.language = ""
        self.language_probability = 0.0
        self.dropped = {"silence": 0, "repetition": 0}
        self.kept: list[Piece] = []
        self.sounds: list[tuple[float, Any]] = []

    def take(self, heard: "Heard", first: Chunk, seconds: float) -> None:
        self.engine_s += seconds
        for piece in heard.pieces:
            if piece.dropped:
                self.dropped[piece.dropped] += 1
            elif piece.said.text.strip():
                self.kept.append(piece)
                self.tokens += piece.said.tokens
        if self.kept and not self.language:
            self.language, self.language_probability = heard.language, heard.language_probability
        if heard.sounds is not None and first.start_s + first.seconds <= LONGEST_SOUNDS_S:
            self.sounds.append((first.start_s, heard.sounds))

    def artifacts(self, recogniser: "Recogniser") -> list[Artifact]:
        transcript = json.dumps(self.transcript(recogniser.device), ensure_ascii=False).encode()
        found = [Artifact("transcript", "application/json", transcript)]
        if self.sounds and recogniser.head is not None:
            found.append(Artifact("sounds", "application/octet-stream", self._packed(recogniser.head.names)))
        return found

    def transcript(self, device: str) -> dict[str, Any]:
        language = self.ask.language or self.language
        return {
            "language": language or None,
            "language_probability": 1.0 if self.ask.language else round(self.language_probability, 4),
            "duration": round(self.seconds, 3),
            "segments": [_segment(number, piece) for number, piece in enumerate(self.kept)],
            "words": [_word(word) for piece in self.kept for word in piece.words] if self.ask.words else None,
            "dropped": self.dropped,
            "device": device,
        }

    def _packed(self, names: tuple[str, ...]) -> bytes:
        """All chunks in their places, nothing between them."""
        import numpy as np

        from deployments.sounds.posteriors import BLANK, STEP_S, Sounds

        ends = [round(start / STEP_S) + len(rows) for start, rows in self.sounds]
        whole = np.full((max(ends), len(names)), -15.0, np.float32)
        whole[:, BLANK] = 0.0
        for (_, rows), end in zip(self.sounds, ends, strict=True):
            whole[end - len(rows) : end] = rows
        return Sounds(whole, names).pack()


def _segment(number: int, piece: "Piece") -> dict[str, Any]:
    said, words = piece.said, piece.words
    return {
        "id": number,
        "start": round(words[0].start if words else said.start, 3),
        "end": round(words[-1].end if words else said.end, 3),
        "text": said.text.strip(),
        "avg_logprob": round(said.avg_logprob, 4),
        "no_speech_prob": round(said.no_speech_prob, 4),
        "compression_ratio": round(said.compression_ratio, 3),
        "temperature": said.temperature,
    }


def _word(word: Any) -> dict[str, Any]:
    return {
        "word": word.word,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "probability": round(word.probability, 4),
    }


def _folder(path: str) -> Path:
    for candidate in (Path(path).expanduser(), PROJECT / path):
        if (candidate / "model.bin").is_file():
            if not (candidate / "tokenizer.json").is_file():
                raise ConfigError(f"path: '{path}' has no tokenizer.json, and nothing is downloaded; {REMEDY}")
            return candidate
    raise ConfigError(f"path: '{path}' holds no CTranslate2 model (model.bin); {REMEDY}")
