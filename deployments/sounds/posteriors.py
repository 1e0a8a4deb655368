"""How probable each phone is at each moment, and what CTC makes of it."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
STEP_S = 0.02
BLANK = 0
RESOLUTION = 16
"""A byte holds a log probability in sixteenths, down to -15.9."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A phone that the model is sure of, with its frames [first, last]."""

    phone: str
    first: int
    last: int
    log_probability: float


@dataclass(frozen=True, slots=True)
class Sounds:
    """Log probabilities, [frames, phones], 20 ms each from the beginning of the recording. Phone 0 is none."""

    log_probabilities: Array
    names: tuple[str, ...]

    def pack(self) -> bytes:
        """A line of JSON with the names, then a byte for each number."""
        scaled = np.clip(np.round(-self.log_probabilities * RESOLUTION), 0, 255).astype(np.uint8)
        return json.dumps({"phones": self.names}, ensure_ascii=False).encode() + b"\n" + scaled.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        head, _, body = data.partition(b"\n")
        names = tuple(json.loads(head)["phones"])
        scaled = np.frombuffer(body, np.uint8).reshape(-1, len(names))
        return cls((scaled * np.float32(-1 / RESOLUTION)).astype(np.float32), names)

    def heard(self) -> list[Heard]:
        """The best phone of every frame, repeats as one."""
        best = self.log_probabilities.argmax(axis=1)
        edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
        found = []
        for first, end in pairwise(edges):
            if best[first] != BLANK:
                sure = float(self.log_probabilities[first:end, best[first]].max())
                found.append(Heard(self.names[best[first]], int(first), int(end) - 1, sure))
        return found


class PhoneHead:
    """A linear layer over what an encoder has made of the sound."""

    def __init__(self, weight: Array, bias: Array, names: tuple[str, ...]) -> None:
        self.weight, self.bias, self.names = weight, bias, names

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """The head that lies beside a model, if there is one."""
        path = folder / "phones.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            names = tuple(str(name) for name in file["names"])
            return cls(file["weight"].astype(np.float32), file["bias"].astype(np.float32), names)

    def __call__(self, encoded: npt.NDArray[Any]) -> Array:
        """[frames, width] → log probabilities [frames, phones]."""
        logits = encoded.astype(np.float32) @ self.weight.T + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        result: Array = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return result


def forced(log_probabilities: Array, labels: list[int]) -> list[tuple[int, int]] | None:
    """The frames [first, last] of each label on the best CTC path that says exactly these; None if there are too few.

    Viterbi over the labels with blanks between them (Graves et al. 2006), all states of a frame at once.
    """
    frames, states = len(log_probabilities), 2 * len(labels) + 1
    if not labels or frames < len(labels):
        return None
    spelt = np.zeros(states, np.int64)
    spelt[1::2] = labels
    skips = np.zeros(states, bool)
    skips[3::2] = spelt[3::2] != spelt[1:-2:2]
    score = np.full(states, -np.inf, np.float32)
    score[:2] = log_probabilities[0, spelt[:2]]
    came = np.zeros((frames, states), np.int8)
    for frame in range(1, frames):
        stay, step, skip = score, np.full_like(score, -np.inf), np.full_like(score, -np.inf)
        step[1:], skip[2:] = score[:-1], np.where(skips[2:], score[:-2], -np.inf)
        choices = np.stack([stay, step, skip])
        came[frame] = choices.argmax(axis=0)
        score = choices.max(axis=0) + log_probabilities[frame, spelt]
    return _traced(came, score, len(labels))


def _traced(came: npt.NDArray[np.int8], score: Array, count: int) -> list[tuple[int, int]] | None:
    state = len(score) - 1 if score[-1] >= score[-2] else len(score) - 2
    if not np.isfinite(score[state]):
        return None
    spans: list[list[int]] = [[] for _ in range(count)]
    for frame in range(len(came) - 1, -1, -1):
        if state % 2:
            spans[state // 2].append(frame)
        state -= int(came[frame, state])
    return [(frames[-1], frames[0]) for frames in spans]
