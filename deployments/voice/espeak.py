"""eSpeak NG, as a voice that is asked sentence by sentence. The process that has the library is in `worker.py`."""

import asyncio
import ctypes.util
import importlib.util
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from deployments.media.child import Child, Died
from serve_app.errors import BadRequest, EngineFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORKER = Path(__file__).with_name("worker.py")
LENGTH = struct.Struct("<I")
SPACES = " \n\t"
UNSPACED = (("\u3040", "\u30ff"), ("\u3400", "\u9fff"))  # kana and Han
PAUSES = frozenset({"", "_", "_:", "_!", "_|"})


@dataclass(frozen=True, slots=True)
class Utterance:
    """What to say, in eSpeak NG's own terms: a voice such as `ko` or `en-us+f2`, words per minute, and from 0 to 100.

    With `phonemes`, what stands in `[[double brackets]]` is read as eSpeak's phoneme mnemonics. That is for text of
    our own: callers' text is always taken literally.
    """

    text: str
    voice: str = "en-us"
    rate: int = 175
    pitch: int = 50
    range: int = 50
    volume: int = 100
    gap: int = 0
    phonemes: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the text, as it stands between spaces, and when it is heard, in seconds.

    In Chinese and Japanese it is what eSpeak takes for a word.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """Mono samples between -1 and 1, `rate` of them per second; `phonemes` are mnemonics and when they begin.

    The same utterance is not the same to the last bit: eSpeak makes the pitch waver a little, on and on.
    """

    samples: "NDArray[np.float32]"
    rate: int
    words: tuple[Word, ...]
    phonemes: tuple[tuple[str, float], ...]


class Voice:
    """One eSpeak process, from `async with` to its end. Anything but a whole answer has it replaced.

    Any number of tasks may call `say`; they are served one after the other, a sentence being a matter of milliseconds.
    """

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._child: Child | None = None
        self.rate = 0

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._stop()

    async def say(self, utterance: Utterance) -> Spoken:
        """Raises `BadRequest` if there is no such voice, `EngineFailed` if eSpeak broke."""
        async with self._asking:
            try:
                return await self._say(utterance)
            except Died:
                await self._stop()
                raise EngineFailed("The voice broke at this text. Change it a little, or try again.") from None
            except asyncio.CancelledError:
                await self._stop()  # half an answer is still to come
                raise

    async def _say(self, utterance: Utterance) -> Spoken:
        child = self._child or await self._start()
        request = json.dumps(asdict(utterance)).encode()
        await child.send(LENGTH.pack(len(request)) + request)
        samples = bytearray()
        while True:
            kind, content = await child.message()
            if kind == b"A":
                samples += content
            elif kind == b"T":
                return _spoken(utterance.text, self.rate, samples, json.loads(content))
            else:
                raise BadRequest("There is no voice for this language.", param="language")

    async def _start(self) -> Child:
        library, data = find()
        child = Child({"library": library, "data": data}, worker=WORKER)
        await child.__aenter__()
        try:
            _, content = await child.message()
        except BaseException:  # a cancelled start, too, must not leave a process behind
            await child.__aexit__(None, None, None)
            raise
        self._child, self.rate = child, LENGTH.unpack(content)[0]
        return child

    async def _stop(self) -> None:
        if self._child:
            await self._child.__aexit__(None, None, None)
            self._child = None


async def synthesise(utterance: Utterance) -> Spoken:
    """One utterance from a process of its own; who has many keeps a `Voice`."""
    async with Voice() as voice:
        return await voice.say(utterance)


def find() -> tuple[str, str | None]:
    """The library and its data: those of the package `espeakng-loader`, or else the system's own."""
    if package := importlib.util.find_spec("espeakng_loader"):
        folder = Path(str(package.origin)).parent
        found = next((file for file in sorted(folder.glob("libespeak-ng.*")) if file.is_file()), None)
        if found:
            return str(found), str(folder / "espeak-ng-data")
    if system := ctypes.util.find_library("espeak-ng"):
        return system, None
    raise EngineFailed("eSpeak NG is not installed: pip install 'megacity-serve[tts]', or install the system's own.")


def _spoken(text: str, rate: int, samples: bytearray, times: dict[str, Any]) -> Spoken:
    import numpy as np

    pcm = np.frombuffer(samples, "<i2").astype(np.float32) / np.float32(32768)
    phonemes = tuple((symbol, ms / 1000) for symbol, ms in times["phonemes"])
    return Spoken(pcm, rate, _words(text, times["words"], phonemes, len(pcm) / rate), phonemes)


def _words(
    text: str, said: list[tuple[int, int, int]], phonemes: tuple[tuple[str, float], ...], whole_s: float
) -> tuple[Word, ...]:
    """What eSpeak reports for parts of one word of the text is put together. A word ends where the next begins, or
    where a pause does before that."""
    starts = [ms / 1000 for _, _, ms in said]
    pauses = [start for symbol, start in phonemes if symbol in PAUSES]
    words: dict[tuple[int, int], tuple[float, float]] = {}
    for index, (first, length, _) in enumerate(said):
        following = starts[index + 1] if index + 1 < len(said) else whole_s
        end = min([following, *(pause for pause in pauses if starts[index] < pause)])
        place = _place(text, first, length)
        words[place] = (words.get(place, (starts[index], 0.0))[0], end)
    return tuple(Word(text[slice(*place)], *times) for place, times in words.items())


def _place(text: str, first: int, length: int) -> tuple[int, int]:
    """Where the word stands that begins at `first`: between spaces, or as eSpeak says where there are none."""
    if any(low <= text[first : first + 1] <= high for low, high in UNSPACED):
        return first, first + length
    start = max(text.rfind(space, 0, first) for space in SPACES) + 1
    ends = [end for space in SPACES if (end := text.find(space, first)) >= 0]
    return start, min(ends, default=len(text))
