import math
from collections import Counter

import numpy as np
import pytest

from deployments.text.sampling import Choosing
from deployments.text.seeded import SeededSampler
from serve_app.errors import BadRequest
from serve_app.types import Sampling

PROBABILITIES = np.array([0.5, 0.3, 0.15, 0.05])
DRAWS = 20_000


def draw(choosing: Choosing, index: int = 0, draws: int = DRAWS) -> list[int]:
    sampler = SeededSampler(choosing, index, len(PROBABILITIES))
    return [sampler.pick(np.log(PROBABILITIES)[None, :]) for _ in range(draws)]


@pytest.mark.parametrize(
    ("choosing", "expected"),
    [
        (Choosing(1.0, seed=1), PROBABILITIES),
        (Choosing(0.5, seed=1), PROBABILITIES**2 / sum(PROBABILITIES**2)),
        (Choosing(1.0, top_k=2, seed=1), [0.625, 0.375, 0, 0]),
        (Choosing(1.0, top_p=0.6, seed=1), [0.625, 0.375, 0, 0]),
        (Choosing(1.0, top_p=0.5, seed=1), [1, 0, 0, 0]),
        (Choosing(1.0, top_p=0.8, top_k=1, seed=1), [1, 0, 0, 0]),
    ],
)
def test_tokens_follow_the_distribution(choosing: Choosing, expected: list[float]) -> None:
    counts = Counter(draw(choosing))
    for token, probability in enumerate(expected):
        deviation = math.sqrt(probability * (1 - probability) / DRAWS)
        assert counts[token] / DRAWS == pytest.approx(probability, abs=4 * deviation)


def test_a_seed_repeats_and_another_does_not() -> None:
    first = draw(Choosing(1.0, seed=1), draws=50)
    assert draw(Choosing(1.0, seed=1), draws=50) == first
    assert draw(Choosing(1.0, seed=2), draws=50) != first
    assert draw(Choosing(1.0, seed=1), index=1, draws=50) != first


@pytest.mark.parametrize("seed", [0, -1, 2**63, -(2**70)])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert draw(Choosing(1.0, seed=seed), draws=5) == draw(Choosing(1.0, seed=seed), draws=5)


def test_what_is_left_out_comes_from_the_model() -> None:
    own = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}
    assert Choosing.of(Sampling(), own) == Choosing(0.6, 0.9, 20)
    assert Choosing.of(Sampling(temperature=0), own).temperature == 0
    assert Choosing.of(Sampling(), own | {"do_sample": False}).temperature == 0
    assert Choosing.of(Sampling(top_p=0.5, temperature=1.5), {}) == Choosing(1.5, 0.5)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": math.nan}, {"temperature": math.inf},
                                   {"top_p": 0}, {"top_p": 1.1}, {"top_p": math.nan}])  # fmt: skip
def test_unusable_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadRequest) as refused:
        Choosing.of(Sampling(**wrong), {})
    assert refused.value.param in wrong
