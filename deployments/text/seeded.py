"""Sampling that a seed makes repeatable."""

from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.text.sampling import Choosing


class SeededSampler:
    """Chooses tokens from logits; the same seed and choice index give the same tokens for the same logits."""

    def __init__(self, choosing: Choosing, index: int, vocabulary_size: int) -> None:
        seed = (choosing.seed or 0) % 2**64
        self._random = np.random.default_rng((seed, index))
        self._choosing = choosing
        self._size = vocabulary_size

    def pick(self, logits: Any) -> int:
        """One uniform number per token, turned into a token by the cumulated probabilities."""
        probabilities = self._probabilities(np.array(logits, dtype=np.float64).reshape(-1)[: self._size])
        cumulated = probabilities.cumsum()
        at = np.searchsorted(cumulated, self._random.random() * cumulated[-1], side="right")
        return int(min(at, len(cumulated) - 1))

    def _probabilities(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        weights: npt.NDArray[np.float64] = np.exp((logits - logits.max()) / self._choosing.temperature)
        if self._choosing.top_k == 0 and self._choosing.top_p == 1:
            return weights
        order = np.argsort(-weights, kind="stable")
        weights[order[self._kept(weights[order]) :]] = 0
        return weights

    def _kept(self, descending: npt.NDArray[np.float64]) -> int:
        """How many of the most probable tokens stay: at most `top_k`, and no more than it takes to reach `top_p`."""
        kept = self._choosing.top_k or len(descending)
        cumulated = descending[:kept].cumsum()
        return int(np.searchsorted(cumulated, self._choosing.top_p * cumulated[-1])) + 1
