"""How one movement differs from another: the score, and where it comes from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.movement import alignment
from deployments.movement.alignment import Line
from deployments.movement.body import PARTS
from deployments.movement.features import RATE_HZ, Features, Movement, features, resample
from deployments.movement.recording import Recording

Floats = NDArray[np.float32]
READINGS = {"auto": (False, True), "yes": (True,), "no": (False,)}

HALF_SCORE_DEG = 30.0
BAND_S = 1.0
COARSE = 2  # the first search sees every second frame
FREE_S, FREE_SHARE = 2.0, 0.25  # what may be missing of the reference without loss: the lesser of both
MIRROR_GAIN = 0.9  # a mirrored reading must fit that much better to be believed
SEEN_SHARE = 0.2  # a joint that is seen less is not judged
MOMENT_S = 1.0
MAX_MOMENTS = 5
NOTABLE_DEG = 10.0


@dataclass(frozen=True, slots=True)
class PartResult:
    """`deviation_deg` is the learner's joint angle less the reference's, on average: negative is low. `error_deg` is
    the same without the sign. `direction_deg` is how far the limb points elsewhere. All are None for what was not
    seen; the trunk and the head have a direction only. `seen` is from 0 to 1."""

    name: str
    deviation_deg: float | None
    error_deg: float | None
    direction_deg: float | None
    score: float | None
    seen: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of the reference, in its own seconds, that went wrong; `video_s` is where it begins in the learner's
    clip, `late_s` how late it was danced against the learner's own tempo, `joints` the worst, in degrees."""

    start_s: float
    end_s: float
    video_s: float
    deviation_deg: float
    late_s: float
    joints: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Tempo:
    """`ratio` above 1 is faster than the reference. `offset_s` above 0 is later: how much later in the learner's clip
    the dance begins than in the reference's. `rhythm_s` is how much single moments are off, in tempo."""

    ratio: float
    offset_s: float
    rhythm_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """`errors` and `times_s` are the heatmap: degrees per moment of the reference and part, NaN for what was not seen.
    `poses` are world landmarks of the reference and of the learner at the worst of them, `worst`, (2, 33, 3)."""

    score: float
    deviation_deg: float
    coverage: float
    mirrored: bool
    tempo: Tempo
    parts: tuple[PartResult, ...]
    moments: tuple[Moment, ...]
    errors: Floats
    times_s: Floats
    poses: Floats
    worst: int


def compare(learner: Recording, reference: Recording, mirror: str = "auto") -> Comparison:
    """`mirror` is `auto`, `yes` or `no`. Raises Unprocessable if there is too little to compare."""
    ours, theirs = resample(learner), resample(reference)
    mirrored, found = _find(features(ours), theirs, mirror)
    if mirrored:
        theirs = theirs.mirrored()
    best = max((_Aligned(ours, theirs, line, mirrored) for line in _lines(found, ours, theirs)), key=lambda a: a.score)
    return best.result()


def score_of(deviation_deg: float) -> float:
    """100 for no deviation, 50 for limbs that are `HALF_SCORE_DEG` off on average, and ever less beyond."""
    return 100 / (1 + (deviation_deg / HALF_SCORE_DEG) ** 2)


def _find(ours: Features, theirs: Movement, mirror: str) -> tuple[bool, Line]:
    found = {}
    for mirrored in READINGS[mirror]:
        wanted = features(theirs.mirrored() if mirrored else theirs)
        cost = alignment.distances(wanted.every(COARSE), ours.every(COARSE))
        free = min(FREE_S, FREE_SHARE * theirs.frames / RATE_HZ) * RATE_HZ / COARSE
        found[mirrored] = alignment.find(cost, _motion(wanted.every(COARSE)), int(free))
    if mirror == "auto":
        mirrored = found[True].cost_rad < MIRROR_GAIN * found[False].cost_rad
    return mirrored, found[mirrored].finer(COARSE, theirs.frames, len(ours.limbs))


def _lines(found: Line, ours: Movement, theirs: Movement) -> list[Line]:
    """What was found, if it is long enough to be judged, and the plain readings: from the beginning at the reference's
    tempo, and all of one clip against all of the other. Where two movements differ much, a search finds anything."""
    whole = ours.frames / theirs.frames
    lines = [found, Line(0.0, 1.0, 0, 0, 0.0).within(theirs.frames, ours.frames)]
    if 0.5 <= whole <= 2:
        lines.append(Line(0.0, whole, 0, 0, 0.0).within(theirs.frames, ours.frames))
    return [line for line in lines if line.end - line.begin >= RATE_HZ / 2]


def _motion(wanted: Features) -> Floats:
    """How fast each frame moves, in radians per frame."""
    steps = np.linalg.norm(np.diff(wanted.limbs, axis=0), axis=2) * np.minimum(wanted.seen[1:], wanted.seen[:-1])
    return np.append(steps.mean(axis=1), 0).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """Rows of steps or moments, a column per part: how far limbs point elsewhere and angles differ, in degrees, and how
    far to trust each."""

    turned: Floats
    signed: Floats
    seen: Floats
    sure: Floats

    def per(self, mean: Callable[[Floats], Floats]) -> "_Errors":
        return _Errors(*(mean(values) for values in (self.turned, self.signed, self.seen, self.sure)))

    @property
    def combined(self) -> Floats:
        """As the score counts them; NaN for what was not seen."""
        squares = self.seen * self.turned**2 + self.sure * self.signed**2
        combined = np.sqrt(squares / np.maximum(self.seen + self.sure, 1e-6))
        return np.where(self.seen >= SEEN_SHARE, combined, np.nan).astype(np.float32)

    def part(self, at: int) -> PartResult:
        seen, sure = self.seen[:, at], self.sure[:, at]
        name, share = PARTS[at].name, float(seen.mean())
        if share < SEEN_SHARE:
            return PartResult(name, None, None, None, None, share)
        judged = float(sure.mean()) >= SEEN_SHARE
        return PartResult(
            name,
            deviation_deg=float(np.average(self.signed[:, at], weights=sure)) if judged else None,
            error_deg=float(np.average(abs(self.signed[:, at]), weights=sure)) if judged else None,
            direction_deg=float(np.average(self.turned[:, at], weights=seen)),
            score=score_of(float(np.nanmean(self.combined[:, at]))),
            seen=share,
        )


class _Aligned:
    """Both movements on the reference's clock, from frame `begin` of it on, and the path between them."""

    def __init__(self, ours: Movement, theirs: Movement, line: Line, mirrored: bool) -> None:
        clock = np.arange(line.begin, line.end)
        self.line, self.mirrored, self.frames = line, mirrored, theirs.frames
        self.danced, self.wanted = ours.at(line.offset + line.tempo * clock), theirs.between(line.begin, line.end)
        self.a, self.b = features(self.wanted), features(self.danced)
        self.i, self.j, self.cost = alignment.warp(self.a, self.b, round(BAND_S * RATE_HZ))
        self.n = len(clock)
        self.steps = np.bincount(self.i, minlength=self.n)
        self.deviations = np.degrees(self._per_frame(self.cost[:, None])[:, 0])
        self.coverage = self.n / self.frames

    @property
    def score(self) -> float:
        required = 1 - min(FREE_S * RATE_HZ / self.frames, FREE_SHARE)
        return score_of(float(self.deviations.mean())) * min(1.0, self.coverage / required)

    def result(self) -> Comparison:
        errors = self._errors()
        moments = errors.per(self._per_frame)
        tempo, late_s = self._tempo()
        worst = int(self.deviations.argmax())
        return Comparison(
            score=self.score,
            deviation_deg=float(self.deviations.mean()),
            coverage=self.coverage,
            mirrored=self.mirrored,
            tempo=tempo,
            parts=tuple(errors.part(at) for at in range(len(PARTS))),
            moments=self._moments(moments, late_s),
            errors=moments.combined,
            times_s=((self.line.begin + np.arange(self.n)) / RATE_HZ).astype(np.float32),
            poses=np.stack([self.wanted.world[worst], self.danced.world[self.j[np.searchsorted(self.i, worst)]]]),
            worst=worst,
        )

    def _per_frame(self, values: Floats) -> Floats:
        """Means over the path's steps at each frame of the reference."""
        begins = np.searchsorted(self.i, np.arange(self.n))
        mean = np.add.reduceat(values, begins, axis=0) / self.steps[:, None]
        return mean.astype(np.float32)

    def _errors(self) -> "_Errors":
        count = len(PARTS)
        a, b = self.a.limbs[self.i, :count], self.b.limbs[self.j, :count]
        turned = 2 * np.arcsin((np.linalg.norm(a - b, axis=2) / 2).clip(0, 1))
        signed = self.b.angles[self.j] - self.a.angles[self.i]
        seen = self.a.seen[self.i, :count] * self.b.seen[self.j, :count]
        sure = self.a.sure[self.i] * self.b.sure[self.j]
        return _Errors(np.degrees(turned), np.degrees(signed), seen, sure)

    def _tempo(self) -> tuple[Tempo, Floats]:
        """The line through the path, weighted by movement, and how late each frame of the reference is against it."""
        weights = _motion(self.a)[self.i] + 1e-3
        mean_i, mean_j = np.average(self.i, weights=weights), np.average(self.j, weights=weights)
        spread = float((weights * (self.i - mean_i) ** 2).sum())
        slope = float((weights * (self.i - mean_i) * (self.j - mean_j)).sum()) / max(spread, 1e-9)
        tempo = self.line.tempo * slope
        first = self.line.offset + self.line.tempo * (self.line.begin + mean_j - slope * mean_i)
        late = (self.j - mean_j - slope * (self.i - mean_i)) * self.line.tempo / RATE_HZ
        rhythm = float(np.sqrt(np.average(late**2, weights=weights)))
        offset = (first - self.line.begin) / RATE_HZ
        return Tempo(1 / max(tempo, 1e-3), float(offset), rhythm), self._per_frame(late[:, None])[:, 0]

    def _moments(self, errors: _Errors, late_s: Floats) -> tuple[Moment, ...]:
        """The worst stretches, the worst first, that are notable and don't overlap."""
        width = min(round(MOMENT_S * RATE_HZ), self.n)
        means = np.convolve(self.deviations, np.full(width, 1 / width), mode="valid")
        found: list[Moment] = []
        while len(found) < MAX_MOMENTS and means.max() > NOTABLE_DEG:
            at = int(means.argmax())
            found.append(self._moment(at, width, float(means[at]), errors, float(late_s[at : at + width].mean())))
            means[max(0, at - width) : at + width] = 0
        return tuple(found)

    def _moment(self, at: int, width: int, deviation: float, errors: _Errors, late_s: float) -> Moment:
        here = slice(at, at + width)
        trust = errors.sure[here].sum(axis=0)
        means = (errors.signed[here] * errors.sure[here]).sum(axis=0) / np.maximum(trust, 1e-6)
        judged = np.flatnonzero(trust >= SEEN_SHARE * width)
        worst = sorted((k for k in judged if abs(means[k]) > NOTABLE_DEG), key=lambda k: -abs(means[k]))[:3]
        start = self.line.begin + at
        learner = self.line.offset + self.line.tempo * (self.line.begin + self.j[np.searchsorted(self.i, at)])
        return Moment(
            start_s=start / RATE_HZ,
            end_s=(start + width) / RATE_HZ,
            video_s=max(0.0, float(learner) / RATE_HZ),
            deviation_deg=deviation,
            late_s=late_s,
            joints=tuple((PARTS[k].name, float(means[k])) for k in worst),
        )
