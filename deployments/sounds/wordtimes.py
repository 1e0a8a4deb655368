"""When each word of a transcript was said: CTC alignment of its sounds with what the phone head has heard."""

from dataclasses import dataclass

import numpy as np

from deployments.sounds.posteriors import STEP_S, Sounds, forced
from deployments.sounds.reference import ReferenceWord, reference

LATE_S = 0.06
LASTS_S = 0.06
"""CTC names a sound late and briefly: a word begins so long before its first is named, and goes on so long after."""


@dataclass(frozen=True, slots=True)
class WordTime:
    """In seconds from the beginning of the sound that was aligned."""

    word: str
    start: float
    end: float
    probability: float


def word_times(text: str, language: str, sounds: Sounds) -> list[WordTime]:
    """Empty if the text cannot be laid over the sound."""
    words, _ = reference(text, language)
    index = {name: at for at, name in enumerate(sounds.names)}
    phones = [[index[unit.phone] for unit in word.ways[0].units] for word in words]
    spans = forced(sounds.log_probabilities, [phone for word in phones for phone in word])
    if spans is None:
        return []
    times, at = [], 0
    for word, labels in zip(words, phones, strict=True):
        times.append(_time(word, labels, spans[at : at + len(labels)], sounds))
        at += len(labels)
    return [_not_past(time, following) for time, following in zip(times, [*times[1:], None], strict=True)]


def _time(word: ReferenceWord, labels: list[int], spans: list[tuple[int, int]], sounds: Sounds) -> WordTime:
    best = [sounds.log_probabilities[a : b + 1, label].max() for label, (a, b) in zip(labels, spans, strict=True)]
    start, end = spans[0][0] * STEP_S - LATE_S, (spans[-1][1] + 1) * STEP_S + LASTS_S
    limit = len(sounds.log_probabilities) * STEP_S
    return WordTime(word.word.written, max(0.0, start), min(end, limit), float(np.exp(np.mean(best))))


def _not_past(time: WordTime, following: WordTime | None) -> WordTime:
    """Words do not overlap."""
    if following is None or time.end <= following.start:
        return time
    return WordTime(time.word, time.start, max(time.start, following.start), time.probability)
