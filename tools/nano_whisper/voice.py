"""The synthesiser, eSpeak NG, with its own timing of words.

It is GPL and keeps global state: it is loaded only here, in the recipe's own processes, and is no part of the service.
"""

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 16_000
Pcm = npt.NDArray[np.float32]
SYNCHRONOUS, PHONEME_EVENTS, UTF8, PHONEMES_IN_TEXT = 2, 1, 1, 0x100
WORD, END_OF_LIST = 1, 0
SPEED, PITCH, SPREAD = 1, 3, 4


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class Spoken:
    """`starts` are those of words, in seconds, as the synthesiser reports them."""

    pcm: Pcm
    starts: tuple[float, ...]


class Voice:
    """One per process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data = str(espeakng_loader.get_data_path()).encode()
        self._rate: int = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, PHONEME_EVENTS)
        self._samples: list[npt.NDArray[np.int16]] = []
        self._starts: list[float] = []
        self._callback = _Callback(self._heard)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, speed: int = 160, pitch: int = 50, spread: int = 50) -> Spoken:
        """`text` may hold phoneme names in double brackets. `speed` is in words per minute."""
        self._use(voice)
        for parameter, value in ((SPEED, speed), (PITCH, pitch), (SPREAD, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples.clear()
        self._starts.clear()
        encoded = text.encode()
        flags = UTF8 | PHONEMES_IN_TEXT
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, flags, None, None)
        pcm = np.concatenate(self._samples or [np.zeros(0, np.int16)]).astype(np.float32) / 32768
        return Spoken(_resample(pcm, self._rate), tuple(self._starts))

    def phonemes(self, text: str, voice: str = "en-us") -> list[list[str]]:
        """The names of the phonemes of each word, stress marks included."""
        self._use(voice)
        words: list[list[str]] = []
        pointer = ctypes.c_char_p(text.encode())
        while pointer.value:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), UTF8, ord("_") << 8)
            words += [word.split("_") for word in clause.decode().split()]
        return words

    def _use(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"eSpeak NG has no voice {voice}")

    def _heard(self, wav: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]") -> int:
        at = 0
        while events[at].type != END_OF_LIST:
            if events[at].type == WORD:
                self._starts.append(events[at].audio_ms / 1000)
            at += 1
        if wav and count:
            self._samples.append(np.ctypeslib.as_array(wav, (count,)).copy())
        return 0


@cache
def voices() -> tuple[str, ...]:
    """The speakers of the recipe: eSpeak NG's own variants."""
    return ("", *(f"+m{n}" for n in range(1, 9)), *(f"+f{n}" for n in range(1, 6)))


def _resample(pcm: Pcm, rate: int) -> Pcm:
    """By cutting the spectrum, to 16 kHz."""
    if rate == RATE or not len(pcm):
        return pcm
    count = len(pcm) * RATE // rate
    spectrum = np.fft.rfft(pcm)[: count // 2 + 1]
    return np.fft.irfft(spectrum * (count / len(pcm)), count).astype(np.float32)
