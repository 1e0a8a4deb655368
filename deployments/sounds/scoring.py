"""From an alignment to a score that says which sound of which word went wrong.

A sound costs between 0 and 1: nothing if it is the one expected, or if the model is not sure that it is another; 0.6
and more if it surely is another, growing with the phonetic distance; 1 if it is missing. A word's accuracy is
100 * (1 - cost / number of sounds), and the whole reading's is the same over all its words, extra sounds included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from deployments.sounds.alignment import AlignedWord, Pair, align
from deployments.sounds.hangul import ONSETS, VOWELS, Syllable
from deployments.sounds.phones import CODAS, distance, is_vowel
from deployments.sounds.posteriors import STEP_S, Heard, Sounds
from deployments.sounds.reference import ReferenceWord

SURE = 5.0
"""Natural log of how much more probable what was heard must be for a substitution to count in full."""
WRONG = 0.4
"""A sound that costs less is right."""
LEAST = 0.6
EXTRA_COST = 0.5
MISSING_SHARE = 0.7
LATE_S = 0.06
"""CTC names a sound when it has heard most of it: about this long after its beginning."""
PAUSE_S = 0.25
NEAR = 3  # frames


@dataclass(slots=True)
class Judged:
    """A sound of the reference, or an extra one (`expected` empty), and what it costs."""

    expected: str
    heard: str
    cost: float
    syllable: int = -1
    first: int | None = None
    last: int | None = None
    sure: float = 0.0

    @property
    def status(self) -> str:
        if self.cost < WRONG:
            return "correct"
        if not self.expected:
            return "extra"
        return "substituted" if self.heard else "missing"


@dataclass(slots=True)
class JudgedWord:
    aligned: AlignedWord
    sounds: list[Judged] = field(default_factory=list)

    @property
    def cost(self) -> float:
        return min(self.size, sum(sound.cost for sound in self.sounds))

    @property
    def size(self) -> int:
        return len(self.aligned.way.units)

    @property
    def frames(self) -> list[int]:
        return [
            frame for s in self.sounds if s.expected and s.first is not None for frame in (s.first, s.last or s.first)
        ]

    @property
    def status(self) -> str:
        expected = [sound for sound in self.sounds if sound.expected]
        lost = sum(sound.status == "missing" for sound in expected)
        if expected and lost / len(expected) >= MISSING_SHARE:
            return "missing"
        return "correct" if all(sound.cost < WRONG for sound in self.sounds) else "substituted"


@dataclass(frozen=True, slots=True)
class Scored:
    accuracy: float
    words: list[dict[str, Any]]
    fluency: dict[str, Any]


def score(words: list[ReferenceWord], heard: Sequence[Heard], sounds: Sounds | None) -> Scored:
    """`sounds` are the probabilities behind `heard`; without them every sound heard is taken as sure."""
    aligned, outside = align(words, [sound.phone for sound in heard])
    evidence = Evidence(heard, sounds)
    judged = [_judged(word, evidence) for word in aligned]
    _look_for_missing(judged, evidence)
    groups = _extras(outside, heard)
    size = sum(word.size for word in judged)
    cost = sum(word.cost for word in judged) + EXTRA_COST * sum(len(group) for group in groups)
    details = [_word(word) for word in judged] + [_extra(group) for group in groups]
    details.sort(key=lambda detail: detail.pop("at"))
    return Scored(_percent(cost, size), details, fluency(judged))


class Evidence:
    """What the probabilities say about sounds that were not the best ones."""

    def __init__(self, heard: Sequence[Heard], sounds: Sounds | None) -> None:
        self.heard = heard
        self.sounds = sounds
        self._index = {name: at for at, name in enumerate(sounds.names)} if sounds else {}

    def of(self, phone: str, first: int, last: int) -> float:
        """The highest log probability of a phone, or of one like it, near these frames; -inf if nothing is known."""
        if self.sounds is None:
            return -np.inf
        near = self.sounds.log_probabilities[max(0, first - NEAR) : last + NEAR + 1]
        alike = [at for name, at in self._index.items() if at and distance(name, phone) == 0.0]
        return float(near[:, alike].max()) if len(near) and alike else -np.inf


def _judged(word: AlignedWord, evidence: Evidence) -> JudgedWord:
    return JudgedWord(word, [_sound(pair, evidence) for pair in word.pairs])


def _sound(pair: Pair, evidence: Evidence) -> Judged:
    if pair.heard is None:
        assert pair.unit is not None
        return Judged(pair.unit.phone, "", 1.0, pair.unit.syllable)
    heard = evidence.heard[pair.heard]
    sure = float(np.exp(heard.log_probability))
    if pair.unit is None:
        return Judged("", heard.phone, EXTRA_COST * sure, -1, heard.first, heard.last, sure)
    far = distance(pair.unit.phone, heard.phone)
    doubt = heard.log_probability - evidence.of(pair.unit.phone, heard.first, heard.last)
    cost = (LEAST + (1 - LEAST) * far) * float(np.clip(doubt / SURE, 0, 1)) if far else 0.0
    return Judged(pair.unit.phone, heard.phone, cost, pair.unit.syllable, heard.first, heard.last, sure)


def _look_for_missing(words: list[JudgedWord], evidence: Evidence) -> None:
    """A sound that was nearly heard between its neighbours costs less than one of which there is no trace."""
    sounds = [sound for word in words for sound in word.sounds]
    for at, sound in enumerate(sounds):
        if sound.heard or not sound.expected:
            continue
        before = next((s.last for s in reversed(sounds[:at]) if s.last is not None), 0)
        after = next((s.first for s in sounds[at + 1 :] if s.first is not None), before)
        trace = evidence.of(sound.expected, before, after)
        sound.cost = float(np.clip(-trace / SURE, 0, 1)) if np.isfinite(trace) else 1.0


def _extras(outside: list[int], heard: Sequence[Heard]) -> list[list[Heard]]:
    """Runs of sounds that belong to no word; a single consonant is no word."""
    groups: list[list[int]] = []
    for index in outside:
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    runs = [[heard[index] for index in group] for group in groups]
    return [run for run in runs if len(run) > 1 and any(is_vowel(sound.phone) for sound in run)]


def _word(word: JudgedWord) -> dict[str, Any]:
    reference, status, frames = word.aligned.word.word, word.status, word.frames
    heard = [sound.heard for sound in word.sounds if sound.heard]
    sure = [sound.sure for sound in word.sounds if sound.heard]
    detail: dict[str, Any] = {
        "at": min(frames) if frames else _position(word),
        "word": "" if status == "missing" else spelt(heard) if status == "substituted" else reference.written,
        "reference": reference.written,
        "status": status,
        "start": _seconds(min(frames), begins=True) if frames else None,
        "end": _seconds(max(frames), begins=False) if frames else None,
        "confidence": round(float(np.mean(sure)), 3) if sure else 0.0,
        "accuracy": 0.0 if status == "missing" else _percent(word.cost, word.size),
    }
    if reference.language == "ko":
        detail["syllables"] = [_syllable(word, at) for at in range(len(word.aligned.way.syllables))]
    else:
        detail["phones"] = [_letter(sound) for sound in word.sounds]
    return detail


def _position(word: JudgedWord) -> int:
    return next((sound.first for sound in word.sounds if sound.first is not None), 1 << 30)


def _extra(group: list[Heard]) -> dict[str, Any]:
    return {
        "at": group[0].first,
        "word": spelt([sound.phone for sound in group]),
        "reference": "",
        "status": "extra",
        "start": _seconds(group[0].first, begins=True),
        "end": _seconds(group[-1].last, begins=False),
        "confidence": round(float(np.mean([np.exp(sound.log_probability) for sound in group])), 3),
        "accuracy": 0.0,
    }


def _syllable(word: JudgedWord, at: int) -> dict[str, Any]:
    sounds = [sound for sound in word.sounds if sound.syllable == at]
    letters = [_letter(sound) for sound in sounds]
    statuses = {letter["status"] for letter in letters}
    lost = statuses == {"missing"}
    return {
        "reference": word.aligned.way.syllables[at],
        "heard": spelt([sound.heard for sound in sounds if sound.heard]),
        "status": "correct" if statuses == {"correct"} else "missing" if lost else "substituted",
        "accuracy": _percent(sum(sound.cost for sound in sounds), len(sounds)),
        "jamo": letters,
    }


def _letter(sound: Judged) -> dict[str, Any]:
    return {
        "reference": sound.expected.strip("-"),
        "heard": sound.heard.strip("-") if sound.status != "correct" else sound.expected.strip("-"),
        "status": sound.status,
        "start": None if sound.first is None else _seconds(sound.first, begins=True),
        "end": None if sound.last is None else _seconds(sound.last, begins=False),
        "confidence": round(sound.sure, 3),
    }


def spelt(phones: list[str]) -> str:
    """Sounds in writing: Hangul syllables where they make some, English phones as they are called."""
    written: list[str] = []
    onset, vowel = "", ""
    for phone in [*phones, ""]:
        if phone in VOWELS and phone and vowel:
            written.append(str(Syllable(onset or "ㅇ", vowel)))
            onset, vowel = "", phone
        elif phone in VOWELS and phone:
            vowel = phone
        elif phone[:1] == "-" and vowel and phone[1:] in CODAS:
            written.append(str(Syllable(onset or "ㅇ", vowel, phone[1:])))
            onset, vowel = "", ""
        else:
            if vowel:
                written.append(str(Syllable(onset or "ㅇ", vowel)))
            elif onset:
                written.append(onset)
            onset, vowel = (phone[0], "") if phone[:1] and phone[0] in ONSETS else ("", "")
            if phone and not onset:
                written.append(phone.strip("-") if phone[0] == "-" else f" {phone}")
    return "".join(written).strip()


def fluency(words: list[JudgedWord]) -> dict[str, Any]:
    """Rate and pauses, from the words that were heard. A pause lasts a quarter of a second or more."""
    spans = [(min(word.frames) * STEP_S, (max(word.frames) + 1) * STEP_S) for word in words if word.frames]
    if not spans:
        return {"speech_s": 0.0, "words_per_minute": None, "syllables_per_second": None, "pauses": [], "pause_s": 0.0}
    lasted = spans[-1][1] - spans[0][0]
    gaps = [(end, start - end) for (_, end), (start, _) in pairwise(spans)]
    pauses = [
        {"start": round(at, 2), "duration_s": round(length, 2)} for at, length in gaps if length >= PAUSE_S + LATE_S
    ]
    paused = sum(length for _, length in gaps if length >= PAUSE_S + LATE_S)
    syllables = sum(
        is_vowel(sound.expected) for word in words if word.frames for sound in word.sounds if sound.expected
    )
    return {
        "speech_s": round(lasted, 2),
        "words_per_minute": round(60 * len(spans) / lasted, 1) if lasted else None,
        "syllables_per_second": round(syllables / max(lasted - paused, STEP_S), 2),
        "pauses": pauses,
        "pause_s": round(paused, 2),
    }


def _seconds(frame: int, *, begins: bool) -> float:
    return round(max(0.0, frame * STEP_S - LATE_S) if begins else (frame + 1) * STEP_S, 2)


def _percent(cost: float, size: int) -> float:
    return round(100 * max(0.0, 1 - cost / size), 1) if size else 0.0
