"""Recordings to recognise, made on the spot by the synthesiser that the nano whisper was trained on."""

import hashlib
import random
import wave
from pathlib import Path

import numpy as np
import pytest

from serve_app.types import Media

pytest.importorskip("espeakng_loader", reason="the synthesiser speaks the test sentences")

from tools.nano_whisper import data
from tools.nano_whisper.voice import RATE, Pcm, Voice

_VOICES: list[Voice] = []


def voice() -> Voice:
    """The library is global: one for all tests."""
    if not _VOICES:
        _VOICES.append(Voice())
    return _VOICES[0]


def spoken(text: str, language: str, seed: int = 1) -> Pcm:
    line = data.line_of(voice(), language, text)
    return data.speak(random.Random(seed), voice(), line)


def said_as(heard: str, language: str, seed: int = 1) -> Pcm:
    """What is written is said as it stands: for mispronunciations."""
    return data.speak(random.Random(seed), voice(), data.Line(language, heard, "", []))


def recording(folder: Path, pcm: Pcm, name: str = "speech.wav") -> Media:
    path = folder / name
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    content = path.read_bytes()
    return Media(str(path), hashlib.sha256(content).hexdigest(), len(content), "audio/wav")
