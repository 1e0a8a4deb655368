"""One score out of two halves: how much of the question's rare terms a passage holds, and how near its vector is.

The halves are added with a weight and not by their ranks: reciprocal rank fusion trusts both halves alike, and for a
language that the encoder cannot read that is far worse than leaving it out (docs/retrieval.md has the numbers). The
weight of the dense half is the share of the question that the encoder can read.

The sum is turned into a probability that the passage answers the question, by logistic curves that were fitted to the
tuning third of the project's own questions (`python -m benchmarks.retrieval --fit`). "Don't know" is a threshold on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

DENSE = 0.7
"""Weight of the cosine where the encoder reads all of the question. 0.5 to 0.8 are equally good."""


@dataclass(frozen=True, slots=True)
class Curve:
    """`1 / (1 + exp(-slope * (score - middle)))`"""

    middle: float
    slope: float


LEXICAL = Curve(middle=0.169, slope=20.1)
HYBRID = Curve(middle=0.252, slope=47.6)


@dataclass(frozen=True, slots=True)
class Ranked:
    passage: int
    relevance: float


def rank(strengths: Mapping[int, float], cosines: Mapping[int, float], read: float) -> list[Ranked]:
    """Passages by relevance, best first. `read` is how much of the question the encoder can read, from 0 to 1."""
    found = [
        Ranked(one, relevance(strengths.get(one, 0.0), cosines.get(one, 0.0), read))
        for one in strengths.keys() | cosines.keys()
    ]
    return sorted(found, key=lambda one: (-one.relevance, one.passage))


def relevance(strength: float, cosine: float, read: float) -> float:
    """The probability that a passage answers the question."""
    score = fused(strength, cosine, read)
    margin = (1 - read) * _margin(LEXICAL, score) + read * _margin(HYBRID, score)
    return 1 / (1 + exp(-margin))


def fused(strength: float, cosine: float, read: float) -> float:
    weight = DENSE * read
    return (1 - weight) * strength + weight * cosine


def _margin(curve: Curve, score: float) -> float:
    return curve.slope * (score - curve.middle)
