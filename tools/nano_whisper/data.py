"""Synthesises the training data into shards, which the trainer reads while later ones are still being made.

python -m tools.nano_whisper.data --out FOLDER --items 24000
"""

import argparse
import json
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.sounds.hangul import CODAS, ONSETS, VOWELS, Syllable, split
from deployments.sounds.korean import respell
from deployments.sounds.phones import CODAS as SOUNDED
from tools.nano_whisper import sentences
from tools.nano_whisper.phones import ESPEAK, INDEX, english_phones, espeak_korean, korean_phones
from tools.nano_whisper.voice import RATE, Pcm, Voice, voices

SHARD = 500
PSEUDO = 0.25
QUIET = 0.04
ESPEAK_VOICES = {"ko": "ko", "en": "en-us"}
CONSONANTS = [
    "p",
    "b",
    "t",
    "d",
    "k",
    "g",
    "tS",
    "dZ",
    "f",
    "v",
    "T",
    "D",
    "s",
    "z",
    "S",
    "h",
    "m",
    "n",
    "N",
    "l",
    "r",
    "w",
    "j",
]
VOWEL_NAMES = ["i:", "I", "eI", "E", "a", "0", "O:", "oU", "U", "u:", "V", "3:", "aI", "aU", "OI"]


@dataclass(frozen=True, slots=True)
class Item:
    """`text` is empty for made-up words and for sounds that are no speech; `phones` only for the latter."""

    language: str
    text: str
    phones: list[int]
    frames: int


@dataclass(frozen=True, slots=True)
class Line:
    """What to say, what that is in writing, and the phones that it sounds like."""

    language: str
    spoken: str
    text: str
    phones: list[str]


def real(rng: random.Random, voice: Voice, language: str, *, held_out: bool = False) -> Line:
    while True:
        text = sentences.draw(rng, language)
        if sentences.held_out(text) == held_out:
            return line_of(voice, language, text)


def line_of(voice: Voice, language: str, text: str) -> Line:
    if language == "ko":
        return Line("ko", espeak_korean(text), text, korean_phones(text))
    names = [name for word in voice.phonemes(text) for name in word]
    return Line("en", text, text, english_phones(names))


def made_up(rng: random.Random, voice: Voice, language: str) -> Line:
    """Words that nobody knows: the encoder has to hear them sound by sound."""
    words = rng.choices(sentences.vocabulary(language), k=rng.randint(2, 5))
    if language == "ko":
        text = " ".join(respell(_scrambled(rng, word)) for word in words)
        return Line("ko", text, "", korean_phones(text))
    names = [_mutated(rng, names) for names in voice.phonemes(" ".join(words))]
    spoken = " ".join("[[" + "|".join(word) + "]]" for word in names)
    return Line("en", spoken, "", english_phones([name for word in names for name in word]))


def _scrambled(rng: random.Random, word: str) -> str:
    syllables = [split(character) for character in word]
    if rng.random() < 0.3:
        syllables = [
            Syllable(rng.choice(ONSETS), rng.choice(VOWELS), rng.choice(("", "", "", *SOUNDED))) for _ in syllables
        ]
    for at in range(len(syllables)):
        if rng.random() < 0.4:
            syllables[at] = changed_syllable(rng, syllables[at])
    return "".join(map(str, syllables))


def changed_syllable(rng: random.Random, syllable: Syllable) -> Syllable:
    """One of its letters becomes another."""
    part = rng.choice(("onset", "vowel", "coda" if syllable.coda else "onset"))
    choices = {"onset": ONSETS, "vowel": VOWELS, "coda": SOUNDED}[part]
    letters = {"onset": syllable.onset, "vowel": syllable.vowel, "coda": syllable.coda}
    letters[part] = rng.choice([letter for letter in choices if letter != letters[part]])
    assert letters["coda"] in CODAS
    return Syllable(**letters)


def _mutated(rng: random.Random, names: list[str]) -> list[str]:
    return [
        changed_name(rng, name) if rng.random() < 0.3 else name for name in names if ESPEAK.get(name.lstrip("',=%"))
    ]


def changed_name(rng: random.Random, name: str) -> str:
    """Another phoneme of the same class, with the same stress."""
    plain = name.lstrip("',=%")
    stress = name[: len(name) - len(plain)]
    pool = CONSONANTS if ESPEAK[plain].split()[0] in {ESPEAK[c] for c in CONSONANTS} else VOWEL_NAMES
    return stress + rng.choice([other for other in pool if ESPEAK[other] != ESPEAK[plain]])


def speak(rng: random.Random, voice: Voice, line: Line) -> Pcm:
    speaker = ESPEAK_VOICES[line.language] + rng.choice(voices())
    pcm = voice.say(line.spoken, speaker, rng.randint(110, 200), rng.randint(25, 75), rng.randint(30, 70)).pcm
    return _noisy(rng, _trimmed(pcm))


def _trimmed(pcm: Pcm, keep_s: float = 0.15) -> Pcm:
    loud = np.flatnonzero(np.abs(pcm) > 0.01)
    return pcm[: loud[-1] + int(keep_s * RATE)] if len(loud) else pcm


def _noisy(rng: random.Random, pcm: Pcm) -> Pcm:
    level = rng.uniform(0.1, 1.0)
    if rng.random() < 0.5 or not len(pcm):
        return pcm * np.float32(level)
    noise = coloured(rng, len(pcm))
    loudness = float(np.sqrt(np.mean(pcm**2)) / np.sqrt(np.mean(noise**2) + 1e-12))
    return (pcm + noise * np.float32(loudness * 10 ** (-rng.uniform(12, 40) / 20))) * np.float32(level)


def coloured(rng: random.Random, count: int) -> Pcm:
    """Noise whose power falls by 0 to 6 dB per octave."""
    generator = np.random.default_rng(rng.getrandbits(32))
    spectrum = np.fft.rfft(generator.standard_normal(count))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1)
    return np.fft.irfft(spectrum, count).astype(np.float32)


def quiet(rng: random.Random) -> Pcm:
    """No speech: silence, noise, or tones that come and go like music."""
    count = int(rng.uniform(1, 4) * RATE)
    kind = rng.choice(("silence", "noise", "music", "music"))
    if kind == "silence":
        return np.zeros(count, np.float32)
    if kind == "noise":
        return coloured(rng, count) * np.float32(10 ** rng.uniform(-3, -0.5))
    time = np.arange(count) / RATE
    sound = np.zeros(count)
    for _ in range(rng.randint(2, 8)):
        start, length = rng.uniform(0, count / RATE), rng.uniform(0.2, 1.5)
        pitch = 110 * 2 ** (rng.randint(0, 48) / 12)
        shape = np.exp(-np.maximum(time - start, 0) * rng.uniform(0.5, 6)) * ((time >= start) & (time < start + length))
        sound += shape * sum(np.sin(2 * np.pi * pitch * n * time) / n for n in range(1, rng.randint(2, 6)))
    return (0.2 * sound + 10 ** rng.uniform(-5, -2) * coloured(rng, count)).astype(np.float32)


def example(rng: random.Random, voice: Voice) -> tuple[Line, Pcm]:
    language = rng.choice(("ko", "en"))
    roll = rng.random()
    if roll < QUIET:
        return Line(language, "", "", []), quiet(rng)
    line = made_up(rng, voice, language) if roll < QUIET + PSEUDO else real(rng, voice, language)
    return line, speak(rng, voice, line)


def features(extractor: Any, pcm: Pcm) -> npt.NDArray[np.float32]:
    """Log-mel frames as faster-whisper computes them, [80, frames]."""
    computed: npt.NDArray[np.float32] = extractor(pcm)
    return computed[:, :-1]


def write(folder: Path, shard: int) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    rng, voice, extractor = random.Random(f"nano whisper {shard}"), Voice(), FeatureExtractor()
    items, frames = [], []
    while len(items) < SHARD:
        line, pcm = example(rng, voice)
        if not RATE // 4 < len(pcm) < 9 * RATE:
            continue
        frames.append(features(extractor, pcm).astype(np.float16))
        items.append(Item(line.language, line.text, [INDEX[p] for p in line.phones], frames[-1].shape[1]))
    (folder / f"{shard:04}.json").write_text(json.dumps([asdict(item) for item in items], ensure_ascii=False))
    np.save(folder / "part.npy", np.concatenate(frames, axis=1))
    os.replace(folder / "part.npy", folder / f"{shard:04}.npy")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=24_000)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for shard in range(arguments.items // SHARD):
        if not (arguments.out / f"{shard:04}.npy").exists():
            write(arguments.out, shard)
            print(f"shard {shard}", flush=True)


if __name__ == "__main__":
    main()
