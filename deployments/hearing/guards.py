"""What a recogniser says about silence, noise and music, found out and left out.

Thresholds are those of Whisper's authors (Radford et al. 2022, section 4.5), but for `SURE_OF_SILENCE` and `FASTEST`.
"""

from dataclasses import dataclass

COMPRESSION = 2.4
LOG_PROBABILITY = -1.0
NO_SPEECH = 0.6
SURE_OF_SILENCE = 0.9
"""From here on a piece is silence, however sure the decoder is of the words that it has made up."""
FASTEST = 45.0
"""Characters per second; nobody speaks as fast."""
LOOP = 4
"""This many times the same words one after the other, and no more is kept than one of them."""


@dataclass(frozen=True, slots=True)
class Said:
    """A segment as the model gives it, in seconds from the beginning of its chunk."""

    start: float
    end: float
    text: str
    tokens: int
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float


def objection(said: Said) -> str | None:
    """Why a segment is not believed: `silence` or `repetition`; None if it is."""
    if said.no_speech_prob > SURE_OF_SILENCE or (
        said.no_speech_prob > NO_SPEECH and said.avg_logprob < LOG_PROBABILITY
    ):
        return "silence"
    if said.compression_ratio > COMPRESSION:
        return "repetition"
    if len(said.text) > 20 and len(said.text) > FASTEST * max(said.end - said.start, 0.1):
        return "silence"
    return "repetition" if _loops(said.text.split()) else None


def _loops(words: list[str]) -> bool:
    """Whether a phrase of up to six words comes again and again."""
    for size in range(1, 7):
        for at in range(len(words) - LOOP * size + 1):
            phrase = words[at : at + size]
            if all(words[at + n * size : at + (n + 1) * size] == phrase for n in range(1, LOOP + (size == 1))):
                return True
    return False


def most_tokens(seconds: float) -> int:
    """More tokens than anybody says in that time, timestamps included, and fewer than a loop would make."""
    return min(224, 12 + int(12 * seconds))
