"""Deliberate mispronunciations, synthesised with changed sounds, and what the scoring makes of them.

    python -m tools.nano_whisper.mistakes models/nano-whisper --readings 60

Every sentence (never trained on) is read right, and with one to four of its words each wrong in one sound. Measured are
the scores of right readings, Spearman's correlation of the score with the number of wrong words (over all readings,
short and long sentences together), and how often a wrong word is marked as not correct; and, the other way round, how
often a right word is.
"""

import argparse
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deployments.hearing.chunks import Chunk
from deployments.hearing.recogniser import Recogniser
from deployments.sounds.hangul import split
from deployments.sounds.korean import pronounce
from deployments.sounds.phones import distance, of_syllable
from deployments.sounds.posteriors import Sounds
from deployments.sounds.reference import reference
from deployments.sounds.scoring import Scored, score
from tools.nano_whisper import data
from tools.nano_whisper.data import Line
from tools.nano_whisper.phones import ESPEAK, english_phones, espeak_korean
from tools.nano_whisper.voice import Pcm, Voice

MOST = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """`wrong` are the positions of words in the text that are said wrong."""

    language: str
    text: str
    spoken: str
    wrong: frozenset[int] = frozenset()


def readings(rng: random.Random, voice: Voice, language: str) -> list[Reading]:
    """One sentence, right and with 1 to `MOST` wrong words."""
    while True:
        line = data.real(rng, voice, language, held_out=True)
        words = line.text.split()
        if len(words) < MOST:
            continue
        found = [Reading(language, line.text, line.spoken)]
        for count in range(1, MOST + 1):
            wrong = frozenset(rng.sample(range(len(words)), count))
            spoken = _korean(rng, line, wrong) if language == "ko" else _english(rng, voice, line, wrong)
            if spoken is None:
                break
            found.append(Reading(language, line.text, spoken, wrong))
        if len(found) == MOST + 1:
            return found


def _korean(rng: random.Random, line: Line, wrong: frozenset[int]) -> str:
    words = line.text.split()
    return espeak_korean(" ".join(_changed(rng, w) if at in wrong else w for at, w in enumerate(words)))


def _changed(rng: random.Random, word: str) -> str:
    """Another sound in one syllable of the word as it is said; punctuation stays."""
    letters = "".join(c for c in espeak_korean(word) if "가" <= c <= "힣")
    before = _phones(letters)
    while True:
        at = rng.randrange(len(letters))
        other = letters[:at] + str(data.changed_syllable(rng, split(letters[at]))) + letters[at + 1 :]
        after = _phones(other)
        if len(after) == len(before) and sum(distance(a, b) > 0 for a, b in zip(before, after, strict=True)) == 1:
            return other + word[-1] * (word[-1] in ".?")


def _phones(word: str) -> list[str]:
    return [phone for syllable in pronounce(word) for phone in of_syllable(syllable)]


def _english(rng: random.Random, voice: Voice, line: Line, wrong: frozenset[int]) -> str | None:
    names = voice.phonemes(line.text)
    if len(names) != len(line.text.split()):
        return None  # the synthesiser has joined words
    return " ".join("[[" + "|".join(_wrong(rng, word) if at in wrong else word) + "]]" for at, word in enumerate(names))


def _wrong(rng: random.Random, names: list[str]) -> list[str]:
    sounded = [at for at, name in enumerate(names) if len(ESPEAK[name.lstrip("',=%")].split()) == 1]
    while True:
        at = rng.choice(sounded)
        other = data.changed_name(rng, names[at])
        after = [*names[:at], other, *names[at + 1 :]]
        if distance(*(english_phones([name])[0] for name in (names[at], other))) > 0:
            return after


@dataclass(slots=True)
class Findings:
    right: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    blamed: list[bool] = field(default_factory=list)

    def add(self, reading: Reading, scored: Scored) -> None:
        self.counts.append(len(reading.wrong))
        self.scores.append(scored.accuracy)
        if not reading.wrong:
            self.right.append(scored.accuracy)
        details = [detail for detail in scored.words if detail["status"] != "extra"]
        for at, detail in enumerate(details):
            (self.found if at in reading.wrong else self.blamed).append(detail["status"] != "correct")

    def summary(self) -> dict[str, Any]:
        return {
            "readings": len(self.scores),
            "right_mean": round(float(np.mean(self.right)), 2),
            "right_at_least_95": round(float(np.mean(np.array(self.right) >= 95)), 3),
            "right_lowest_tenth": round(float(np.quantile(self.right, 0.1)), 1),
            "spearman": round(spearman(self.counts, self.scores), 3),
            "mean_by_errors": [
                round(float(np.mean([s for c, s in zip(self.counts, self.scores, strict=True) if c == n])), 1)
                for n in range(MOST + 1)
            ],
            "found_at_the_word": round(float(np.mean(self.found)), 3),
            "right_words_blamed": round(float(np.mean(self.blamed)), 3),
        }


def spearman(a: list[int], b: list[float]) -> float:
    """Of the ranks, ties sharing theirs."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: list[Any]) -> np.ndarray:
    array = np.asarray(values, float)
    return np.array([(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array])


def scored(recogniser: Recogniser, reading: Reading, pcm: Pcm) -> Scored:
    assert recogniser.head is not None
    probabilities = recogniser.sounds(Chunk(pcm, 0.0))
    sounds = Sounds.unpack(Sounds(probabilities, recogniser.head.names).pack())
    return score(reference(reading.text, reading.language)[0], sounds.heard(), sounds)


def measure(recogniser: Recogniser, language: str, sentences: int, seed: str = "mistakes") -> Findings:
    rng, voice, findings = random.Random(f"{seed} {language}"), Voice(), Findings()
    for _ in range(sentences):
        for reading in readings(rng, voice, language):
            pcm = data.speak(rng, voice, Line(language, reading.spoken, reading.text, []))
            findings.add(reading, scored(recogniser, reading, pcm))
    return findings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--readings", type=int, default=60, help="sentences of each language, each read five times")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    recogniser = Recogniser(arguments.model, "cpu", "int8", 1, 1)
    report = {language: measure(recogniser, language, arguments.readings).summary() for language in ("ko", "en")}
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
