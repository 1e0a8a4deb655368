"""Which moment of one movement belongs to which of another: dynamic time warping, in two steps.

First a search for where the reference is in the learner's clip and how fast it is danced: open at both ends, with a
tempo between half and double. What it finds is summed up in a line. Then exact DTW along that line, within a
Sakoe-Chiba band, which leaves room for rhythm but not for another dance.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deployments.movement.body import ACROSS, PARTS
from deployments.movement.features import Features

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

WEIGHTS = np.array([part.weight for part in (*PARTS, *ACROSS)], np.float32)
MISSING_RAD = np.float32(np.radians(60))  # what a moment of the reference costs that the learner's clip lacks
SKIPPED_RAD = np.float32(np.radians(10))  # the same for the first moments, which a recording may lack by chance
OFF_BEAT_RAD = np.float32(np.radians(0.5))  # what a step costs that is not in tempo, so that still moments stay put
UNKNOWN_BELOW = np.float32(0.5)  # trust in all limbs together
UNKNOWN_RAD2 = np.float32(np.radians(90) ** 2)  # between frames that show nothing of the same limb


@dataclass(frozen=True, slots=True)
class Line:
    """Learner's frame = `offset` + `tempo` * reference's frame, from reference frame `begin` to `end`, without `end`.

    A tempo below 1 means that the learner takes less time.
    """

    offset: float
    tempo: float
    begin: int
    end: int
    cost_rad: float

    def within(self, rows: int, columns: int) -> "Line":
        """The same line, from where it enters a table of that size to where it leaves it."""
        places = np.arange(rows) * self.tempo + self.offset
        inside = np.flatnonzero((places > -0.5) & (places < columns - 0.5))
        begin, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        return replace(self, begin=begin, end=end)

    def finer(self, times: int, rows: int, columns: int) -> "Line":
        """The same line on a clock that is `times` as fine."""
        return replace(self, offset=self.offset * times).within(rows, columns)


def distances(a: Features, b: Features) -> Floats:
    """Root mean square difference of limb directions and joint angles, in radians, of every frame to every other.

    Directions count by the chord between the unit vectors, which for small angles is the angle. Each limb is weighted
    by how well both sides see it.
    """
    weighted, surely = b.seen * WEIGHTS, b.sure * WEIGHTS[: len(PARTS)]
    turned = [(2 * a.seen, weighted), (-2 * a.limbs * a.seen[..., None], b.limbs * weighted[..., None])]
    bent = [
        (a.sure * a.angles**2, surely),
        (a.sure, surely * b.angles**2),
        (-2 * a.sure * a.angles, surely * b.angles),
    ]
    rows, columns = (
        np.concatenate([factors[side].reshape(len(factors[side]), -1) for factors in (*turned, *bent)], axis=1)
        for side in (0, 1)
    )
    totals = np.concatenate([a.seen, a.sure], axis=1) @ np.concatenate([weighted, surely], axis=1).T
    squares = rows @ columns.T
    return _root(squares, totals)


def pairwise(a: Features, b: Features) -> Floats:
    """The same of each frame to the one in its place."""
    seen, sure = a.seen * b.seen * WEIGHTS, a.sure * b.sure * WEIGHTS[: len(PARTS)]
    cosines = np.einsum("ijk,ijk->ij", a.limbs, b.limbs)
    squares = (2 * seen * (1 - cosines)).sum(axis=1) + (sure * (a.angles - b.angles) ** 2).sum(axis=1)
    return _root(squares, seen.sum(axis=1) + sure.sum(axis=1))


def _root(squares: Floats, totals: Floats) -> Floats:
    mean = np.where(totals > UNKNOWN_BELOW, squares / np.maximum(totals, UNKNOWN_BELOW), UNKNOWN_RAD2)
    root: Floats = np.sqrt(np.maximum(mean, 0))
    return root


def find(cost: Floats, motion: Floats, free: int) -> Line:
    """The line along which the reference (rows of `cost`) is best found in the learner's clip (columns).

    `motion` says how much each row moves: moving moments tell more about time. The first and last `free` rows may be
    missing at little cost.
    """
    rows, columns, total = _search(cost, free)
    weights = motion[rows] + 1e-3
    mean_row, mean_column = np.average(rows, weights=weights), np.average(columns, weights=weights)
    spread = float((weights * (rows - mean_row) ** 2).sum())
    slope = float((weights * (rows - mean_row) * (columns - mean_column)).sum()) / max(spread, 1e-9)
    tempo = min(max(slope, 0.5), 2.0) if len(rows) > 1 else 1.0
    return Line(float(mean_column - tempo * mean_row), tempo, 0, 0, total).within(*cost.shape)


def _search(cost: Floats, free: int) -> tuple[Ints, Ints, float]:
    """Rows and columns of the best path, and its mean cost. Steps (1,1), (2,1), (1,2): each takes the reference on, so
    a whole row of the table is computed at once."""
    n, m = cost.shape
    skipped = np.cumsum(np.where(np.arange(n) < free, SKIPPED_RAD, MISSING_RAD))
    left_over = np.append(skipped[: n - 1][::-1], 0)  # what it costs to end after each row
    table = np.full((n, m), np.inf, np.float32)
    steps = np.zeros((n, m), np.int8)  # 0: the path begins here; 1: (1,1); 2: (2,1); 3: (1,2)
    table[0] = cost[0]
    for i in range(1, n):
        best = table[i]
        best[0] = skipped[i - 1]
        options = np.full((4, m), np.inf, np.float32)
        options[0, 0] = skipped[i - 1]
        options[1, 1:] = table[i - 1, :-1]
        if i > 1:
            options[2, 1:] = table[i - 2, :-1] + cost[i - 1, 1:] + OFF_BEAT_RAD
        options[3, 2:] = table[i - 1, :-2] + OFF_BEAT_RAD
        steps[i] = options.argmin(axis=0)
        table[i] = options.min(axis=0) + cost[i]
    return _back(table, steps, left_over)


def _back(table: Floats, steps: NDArray[np.int8], left_over: NDArray[np.float64]) -> tuple[Ints, Ints, float]:
    n, m = table.shape
    ends = table[:, -1] + left_over
    row, column = int(ends.argmin()), m - 1
    inner = int(table[-1].argmin())
    if table[-1, inner] <= ends[row]:
        row, column = n - 1, inner
    total = min(float(ends.min()), float(table[-1].min())) / n
    rows, columns = [row], [column]
    while step := int(steps[row, column]):
        row, column = row - (2 if step == 2 else 1), column - (2 if step == 3 else 1)
        rows.append(row)
        columns.append(column)
    return np.array(rows[::-1]), np.array(columns[::-1]), total


def warp(a: Features, b: Features, radius: int) -> tuple[Ints, Ints, Floats]:
    """Exact DTW of two movements of the same length on the same clock: frames of `a` and of `b` along the best path,
    and their distance. They are at most `radius` frames apart.

    Steps are (1,0), (0,1) and (1,1), each at the cost of the pair that it leads to. The table is computed one
    anti-diagonal at a time.
    """
    n = len(a.limbs)
    radius = max(1, min(radius, n - 1))
    cost = _banded(a, b, radius)
    width = 2 * radius + 1
    table = np.full((2 * n - 1, width + 2), np.inf, np.float32)  # a column more at each side: beyond the band
    table[0, radius + 1] = cost[0, radius]
    for s in range(1, 2 * n - 1):
        low, high = max(-radius, -s, s - 2 * (n - 1)), min(radius, s, 2 * (n - 1) - s)
        low += (low + s) % 2
        k = np.arange(low, high + 1, 2)
        at = slice(low + radius + 1, high + radius + 2, 2)
        best = np.minimum(table[s - 1, at.start - 1 : at.stop - 1 : 2], table[s - 1, at.start + 1 : at.stop + 1 : 2])
        if s > 1:
            best = np.minimum(best, table[s - 2, at])
        table[s, at] = best + cost[(s - k) // 2, k + radius]
    i, j = _trace(table, n, radius)
    return i, j, cost[i, j - i + radius]


def _banded(a: Features, b: Features, radius: int) -> Floats:
    """Row i, column radius + k: the distance of frame i of `a` to frame i + k of `b`."""
    n = len(a.limbs)
    cost = np.full((n, 2 * radius + 1), np.inf, np.float32)
    for k in range(-radius, radius + 1):
        begin, end = max(0, -k), min(n, n - k)
        cost[begin:end, radius + k] = pairwise(a.between(begin, end), b.between(begin + k, end + k))
    return cost


def _trace(table: Floats, n: int, radius: int) -> tuple[Ints, Ints]:
    i = j = n - 1
    path = [(i, j)]
    while i or j:
        s, k = i + j, j - i + radius + 1
        diagonal = table[s - 2, k] if s > 1 else np.inf
        up, left = table[s - 1, k + 1], table[s - 1, k - 1]  # from (i - 1, j), from (i, j - 1)
        if diagonal <= up and diagonal <= left:
            i, j = i - 1, j - 1
        elif up <= left:
            i -= 1
        else:
            j -= 1
        path.append((i, j))
    pairs = np.array(path[::-1])
    return pairs[:, 0], pairs[:, 1]
