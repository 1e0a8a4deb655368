"""Measures the nano whisper through faster-whisper at the stock 30 s window, on sentences that training never saw.

    python -m tools.nano_whisper.evaluate models/nano-whisper --sentences 200

Needs `faster-whisper` and `espeakng-loader`. Words are what spaces separate (in Korean: 어절), without punctuation and
capitals; the character error rate leaves spaces out.
"""

import argparse
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.hearing.chunks import Chunk
from deployments.hearing.recogniser import Recogniser
from deployments.sounds.posteriors import Sounds
from deployments.sounds.wordtimes import word_times
from tools.nano_whisper import data
from tools.nano_whisper.voice import Pcm, Voice, voices

GROUPS = ("ko", "en")


def plain(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", " ", text).lower().split()


def distance(a: list[str] | str, b: list[str] | str) -> int:
    """Insertions, deletions and substitutions."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


@dataclass(slots=True)
class Tally:
    words: int = 0
    word_errors: int = 0
    characters: int = 0
    character_errors: int = 0
    sentences: int = 0
    right_language: int = 0
    misheard: list[tuple[str, str]] = field(default_factory=list)

    def add(self, said: str, heard: str, right_language: bool) -> None:
        a, b = plain(said), plain(heard)
        errors = distance(a, b)
        self.words += len(a)
        self.word_errors += errors
        self.characters += len("".join(a))
        self.character_errors += distance("".join(a), "".join(b))
        self.sentences += 1
        self.right_language += right_language
        if errors:
            self.misheard.append((said, heard))

    def summary(self) -> dict[str, float]:
        return {
            "sentences": self.sentences,
            "words": self.words,
            "wer": round(self.word_errors / self.words, 4),
            "cer": round(self.character_errors / self.characters, 4),
            "language_detected": round(self.right_language / self.sentences, 4),
        }


def spoken(language: str, count: int, seed: str) -> list[tuple[data.Line, Pcm]]:
    rng, voice = random.Random(f"{seed} {language}"), Voice()
    lines = [data.real(rng, voice, language, held_out=True) for _ in range(count)]
    return [(line, data.speak(rng, voice, line)) for line in lines]


def transcribed(model: Any, pcm: Pcm, **options: Any) -> tuple[str, str]:
    segments, info = model.transcribe(pcm, condition_on_previous_text=False, **options)
    return "".join(segment.text for segment in segments).strip(), info.language


def measure(model: Any, language: str, count: int, seed: str, **options: Any) -> tuple[Tally, Tally]:
    """Of sentences, and of words in no order, which nobody would say and no context helps with."""
    sentences, loose = Tally(), Tally()
    for line, pcm in spoken(language, count, seed):
        heard, guess = transcribed(model, pcm, **options)
        tally = sentences if line.text.endswith((".", "?", "!")) else loose
        tally.add(line.text, heard, guess == language)
    return sentences, loose


def word_time_errors(folder: Path, language: str, count: int, seed: str) -> list[float]:
    """How far, in seconds, the words of right transcripts begin from where the synthesiser began them."""
    recogniser = Recogniser(folder, "cpu", "int8", 1, 1)
    assert recogniser.head is not None
    rng, voice, errors = random.Random(f"{seed} times {language}"), Voice(), list[float]()
    for _ in range(count):
        line = data.real(rng, voice, language, held_out=True)
        speaker = data.ESPEAK_VOICES[language] + rng.choice(voices())
        said = voice.say(line.spoken, speaker, rng.randint(110, 200), rng.randint(25, 75))
        sounds = Sounds(recogniser.sounds(Chunk(said.pcm, 0.0)), recogniser.head.names)
        times = word_times(line.text, language, sounds)
        if len(times) == len(said.starts):  # else the synthesiser has joined words
            errors += [abs(time.start - start) for time, start in zip(times, said.starts, strict=True)]
    return errors


def main() -> None:
    from deployments.hearing.window import model_class

    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--tail", type=float, help="seconds behind the speech; left out, the stock window of 30 s")
    parser.add_argument("--seed", default="held out")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = model_class(arguments.tail)(str(arguments.model), device="cpu", compute_type="int8", cpu_threads=1)
    report: dict[str, Any] = {}
    for language in GROUPS:
        tally, loose = measure(model, language, arguments.sentences, arguments.seed, beam_size=arguments.beam)
        report[language] = tally.summary() | {f"loose_{name}": value for name, value in loose.summary().items()}
        errors = word_time_errors(arguments.model, language, arguments.sentences, arguments.seed)
        report[language]["word_start_mean_error_s"] = round(sum(errors) / len(errors), 4)
        report[language]["word_starts"] = len(errors)
        for said, heard in [*tally.misheard[:12], *loose.misheard[:6]]:
            print(f"  {said}  →  {heard}")
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
