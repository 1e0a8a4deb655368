"""The vectorised tables against plain loops."""

import numpy as np
import pytest

from deployments.movement import alignment
from deployments.movement.features import Features, features, resample
from tools.dancer.invariance import Take


def _features(seed: int, frames: int) -> Features:
    return features(resample(Take(duration_s=6).of(seed))).between(0, frames)


def _plain(cost: np.ndarray, radius: int) -> float:
    n = len(cost)
    table = np.full((n, n), np.inf)
    for i in range(n):
        for j in range(max(0, i - radius), min(n, i + radius + 1)):
            before = [table[i - 1, j]] if i else []
            before += [table[i, j - 1]] if j else []
            before += [table[i - 1, j - 1]] if i and j else []
            table[i, j] = cost[i, j] + (min(before) if before else 0)
    return float(table[-1, -1])


@pytest.mark.parametrize(("frames", "radius"), [(2, 1), (9, 1), (30, 4), (61, 15), (40, 39), (40, 100)])
def test_dtw_is_exact_within_its_band(frames: int, radius: int) -> None:
    a, b = _features(1, frames), _features(2, frames)
    i, j, cost = alignment.warp(a, b, radius)
    distances = np.stack([alignment.pairwise(a, b.between(at, at + 1)) for at in range(frames)], axis=1)
    np.testing.assert_allclose(cost, distances[i, j], atol=1e-6)
    np.testing.assert_allclose(alignment.distances(a, b), distances, atol=2e-3)
    assert cost.sum() == pytest.approx(_plain(distances, min(radius, frames - 1)), rel=1e-4)


def test_a_path_goes_from_end_to_end_in_single_steps() -> None:
    i, j, _ = alignment.warp(_features(1, 50), _features(3, 50), 10)
    assert (i[0], j[0], i[-1], j[-1]) == (0, 0, 49, 49)
    steps = np.stack([np.diff(i), np.diff(j)])
    assert steps.min() == 0
    assert steps.max() == 1
    assert steps.sum(axis=0).min() == 1
    assert abs(i - j).max() <= 10


def test_distances_are_angles() -> None:
    """Turned by ten degrees in every limb and joint, a pose is ten degrees away."""
    pose = _features(1, 2)
    turned = Features(pose.limbs, pose.angles + np.float32(np.radians(10)), pose.seen * 0, pose.sure)
    assert np.degrees(alignment.distances(turned, turned)[0, 0]) == pytest.approx(0, abs=0.1)
    sees_angles_only = Features(pose.limbs, pose.angles, pose.seen * 0, pose.sure)
    assert np.degrees(alignment.distances(sees_angles_only, turned)[0, 0]) == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize(("tempo", "offset_s"), [(1.0, 0.0), (0.8, 0.0), (1.25, 1.0), (1.1, -1.0)])
def test_the_search_finds_tempo_and_offset(tempo: float, offset_s: float) -> None:
    reference = features(resample(Take().of(1, noise_seed=0)))
    learner = features(resample(Take(tempo=tempo, shift_s=offset_s).of(1)))
    motion = np.ones(len(reference.limbs), np.float32)
    line = alignment.find(alignment.distances(reference, learner), motion, 30)
    assert 1 / line.tempo == pytest.approx(tempo, rel=0.03)
    assert line.offset / 15 == pytest.approx(offset_s, abs=0.2)
