"""Voices: eSpeak NG on any machine, VITS models on a GPU."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from deployments import media
from deployments.voice.espeak import Utterance, Voice
from deployments.voice.kanji import Reader
from deployments.voice.languages import identified, known
from deployments.voice.sentences import sentences
from deployments.voice.stretching import stretched
from deployments.voice.styles import Style, style
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError
from serve_app.types import Artifact, Done, Event, Job, Kind, Speech, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SLOWEST, FASTEST = 0.25, 4.0
NORMAL_RATE, SLOWEST_RATE = 175, 80  # words per minute of eSpeak
ESPEAK_NAMES = {"zh": "cmn", "en": "en-us", "zh-cn": "cmn", "zh-tw": "cmn", "ko-kr": "ko", "ja-jp": "ja"}
VARIANTS = {  # the names that stock clients send, each a voice of its own
    "alloy": "f2",
    "ash": "m1",
    "ballad": "m2",
    "cedar": "m3",
    "coral": "f1",
    "echo": "m4",
    "fable": "m5",
    "marin": "f3",
    "nova": "f4",
    "onyx": "m7",
    "sage": "f5",
    "shimmer": "belinda",
    "verse": "m8",
    "female": "f2",
    "male": "m1",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of a text, with everything that says how it is to be spoken."""

    text: str
    language: str
    voice: str
    style: Style
    speed: float


class Speaking(Engine):
    """What every voice does alike: a text is spoken sentence by sentence and encoded while it goes on.

    Usage counts the characters of the text and the seconds of sound.
    """

    class Options(EngineOptions):
        voice: str = "alloy"
        """Who speaks when a voice is asked for that is not there."""
        max_characters: int = Field(default=4096, ge=1)

    options: Options
    kinds = frozenset({Kind.SPEECH})
    rate: int
    """Samples per second of what `_say` returns."""

    @abstractmethod
    async def _say(self, line: Line) -> "Samples":
        """Speak one line: mono samples between -1 and 1."""

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        speech = job.payload
        assert isinstance(speech, Speech)
        lines = self._lines(speech)
        first = await self._say(lines[0])  # so that what is wrong with it is said before the first event
        spoken = _Spoken(self._rest(first, lines[1:]))
        async with aclosing(media.encoded(spoken, self.rate, speech.format)) as pieces:
            async for piece in pieces:
                yield Artifact("audio", media.MEDIA_TYPES[speech.format], piece)
        yield Done(Usage(characters=len(speech.input), audio_s=spoken.samples / self.rate))

    async def _rest(self, first: "Samples", lines: list[Line]) -> AsyncIterator["Samples"]:
        yield first
        for line in lines:
            yield await self._say(line)

    def _lines(self, speech: Speech) -> list[Line]:
        """Raises `BadRequest` for what cannot be spoken."""
        if len(speech.input) > self.options.max_characters:
            most = self.options.max_characters
            raise BadRequest(f"The text has more than the {most} characters taken here. Send a part.", param="input")
        if speech.format not in media.MEDIA_TYPES:
            raise BadRequest(f"The format should be one of {', '.join(media.MEDIA_TYPES)}.", param="response_format")
        if not SLOWEST <= speech.speed <= FASTEST:
            raise BadRequest(f"'speed' should be from {SLOWEST} to {FASTEST}.", param="speed")
        language = known(speech.language) if speech.language else None
        how, voice = style(speech.style), (speech.voice or self.options.voice).casefold()
        lines = [Line(text, language or identified(text), voice, how, speech.speed) for text in sentences(speech.input)]
        if not lines:
            raise BadRequest("There is nothing to say: send text with letters or digits.")
        return lines


class _Spoken:
    """The blocks of a text on their way to the encoder, counted."""

    def __init__(self, blocks: AsyncIterator["Samples"]) -> None:
        self._blocks = blocks
        self.samples = 0

    async def __aiter__(self) -> AsyncIterator["Samples"]:
        async for block in self._blocks:
            self.samples += len(block)
            yield block


class ESpeak(Speaking):
    """eSpeak NG, in a process of its own: a formant synthesiser that is clear, quick and small rather than beautiful.

    The process is started with the replica, and again if it breaks. A sentence takes some milliseconds, so one
    process serves all slots, in turn.
    """

    class Options(Speaking.Options):
        variants: dict[str, str] = VARIANTS
        """eSpeak's voice variant for each name that callers may ask for."""

    options: Options

    async def load(self) -> None:
        self._voice = Voice()
        self._reader = Reader()
        await self._voice.__aenter__()
        self.rate = self._voice.rate

    async def close(self) -> None:
        await self._voice.__aexit__(None, None, None)

    async def _say(self, line: Line) -> "Samples":
        text = self._reader.kana(line.text) if line.language == "ja" else line.text
        rate = NORMAL_RATE * line.style.pace * line.speed
        spoken = await self._voice.say(
            Utterance(
                text=text,
                voice=self._named(line),
                rate=max(SLOWEST_RATE, round(rate)),
                pitch=line.style.pitch,
                range=line.style.range,
                volume=line.style.volume,
            )
        )
        return spoken.samples if rate >= SLOWEST_RATE else stretched(spoken.samples, self.rate, SLOWEST_RATE / rate)

    def _named(self, line: Line) -> str:
        variants = self.options.variants
        variant = variants.get(line.voice) or variants.get(self.options.voice.casefold(), "")
        return ESPEAK_NAMES.get(line.language, line.language) + (f"+{variant}" if variant else "")


class Vits(Speaking):
    """VITS and MMS models of transformers, one folder per language.

    Weights are read from safetensors and no code from a checkpoint is run. A style changes pace and liveliness, but
    not the pitch. A model that was trained on romanised text (MMS for Korean, say) needs the package `uroman`.
    """

    class Options(Speaking.Options):
        paths: dict[str, str] = Field(min_length=1)
        """The folder of each language's model, by code: `ko`, `en`, …"""
        device: Literal["cpu", "cuda"] = "cuda"
        speakers: dict[str, int] = Field(default_factory=dict)
        """The number of the speaker for each name that callers may ask for."""

    options: Options

    async def load(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vits")  # a model's pace is one of its attributes
        paths = self.options.paths.items()
        self._models = await self._in_thread(lambda: {language: self._load(path) for language, path in paths})
        rates = {model.config.sampling_rate for model, _, _ in self._models.values()}
        if len(rates) > 1:
            raise ConfigError("paths: the models have different sampling rates; make an engine of each")
        self.rate = rates.pop()

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _say(self, line: Line) -> "Samples":
        language = line.language if line.language in self._models else line.language.partition("-")[0]
        if language not in self._models:
            raise BadRequest(f"'language' should be one of {', '.join(self._models)}.", param="language")
        samples: Samples = await self._in_thread(lambda: self._speak(language, line))
        return samples

    def _load(self, path: str) -> tuple[Any, Any, Any]:
        from transformers import VitsModel, VitsTokenizer  # type: ignore[import-not-found]

        if not (Path(path) / "config.json").is_file():
            raise ConfigError("paths: there is no model in one of the folders; it should hold config.json and weights")
        tokenizer = VitsTokenizer.from_pretrained(path, local_files_only=True)
        model = VitsModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
        return model.to(self.options.device).eval(), tokenizer, _romaniser() if tokenizer.is_uroman else None

    def _speak(self, language: str, line: Line) -> "Samples":
        import torch  # type: ignore[import-not-found]

        model, tokenizer, romaniser = self._models[language]
        text = romaniser.romanize_string(line.text) if romaniser else line.text
        inputs = tokenizer(text, return_tensors="pt").to(self.options.device)
        if not inputs["input_ids"].shape[-1]:
            raise BadRequest("The voice has none of this text's letters. Say its language, or ask for another model.")
        model.speaking_rate = line.style.pace * line.speed
        model.noise_scale = model.config.noise_scale * line.style.range / 50
        speakers = self.options.speakers
        speaker = speakers.get(line.voice, speakers.get(self.options.voice.casefold(), 0))
        with torch.inference_mode():
            spoken = model(**inputs, speaker_id=speaker if model.config.num_speakers > 1 else None).waveform[0]
        samples: Samples = spoken.float().cpu().numpy()
        return samples

    async def _in_thread(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _romaniser() -> Any:
    try:
        from uroman import Uroman  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError("paths: a model reads romanised text; install the package uroman") from error
    return Uroman()
