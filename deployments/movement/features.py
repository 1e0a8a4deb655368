"""From landmarks to what is compared: limb directions and joint angles, evenly in time, whoever dances wherever."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deployments.movement.body import ACROSS, MIRRORED, PARTS, Part
from deployments.movement.recording import Recording
from serve_app.errors import Unprocessable

Floats = NDArray[np.float32]

RATE_HZ = 15.0
FINE = 4  # the recording is smoothed at this many times the rate
BLUR_S = 0.05  # standard deviation of the smoothing
UNSEEN = 0.3  # visibility below which a landmark is a guess
SHORTEST_S = 1.0
LONGEST_S = 600.0
LEAST_SEEN = 0.2  # of the body, on average


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """Landmarks at `RATE_HZ`, from `start_s` on. world: (frames, 33, 3), metres; visible: (frames, 33), 0 to 1."""

    world: Floats
    visible: Floats
    start_s: float = 0.0

    @property
    def frames(self) -> int:
        return len(self.world)

    def mirrored(self) -> "Movement":
        flipped = self.world[:, MIRRORED] * np.array([-1, 1, 1], np.float32)
        return replace(self, world=flipped, visible=self.visible[:, MIRRORED])

    def between(self, begin: int, end: int) -> "Movement":
        return replace(self, world=self.world[begin:end], visible=self.visible[begin:end])

    def at(self, places: NDArray[np.floating]) -> "Movement":
        """The movement at other places in time, counted in its own frames; between frames the values are too."""
        below = np.clip(places.astype(int), 0, self.frames - 2)
        share = (places - below).astype(np.float32).clip(0, 1)[:, None]
        visible = self.visible[below] * (1 - share) + self.visible[below + 1] * share
        world = self.world[below] * (1 - share[..., None]) + self.world[below + 1] * share[..., None]
        return replace(self, world=world, visible=visible)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """One row per frame. limbs: (frames, parts and lines across, 3), unit vectors; angles: (frames, parts), radians;
    seen and sure: how far to trust each limb and each angle, from 0 to 1. Parts without an angle have none to trust.

    Only directions and angles count, so it does not matter where somebody is, how tall, or how long an arm is.
    """

    limbs: Floats
    angles: Floats
    seen: Floats
    sure: Floats

    def every(self, step: int) -> "Features":
        return Features(self.limbs[::step], self.angles[::step], self.seen[::step], self.sure[::step])

    def between(self, begin: int, end: int) -> "Features":
        part = slice(begin, end)
        return Features(self.limbs[part], self.angles[part], self.seen[part], self.sure[part])


def resample(recording: Recording) -> Movement:
    """Evenly spaced frames in which seen landmarks outweigh guesses. Raises Unprocessable if there is too little."""
    if recording.duration_s < SHORTEST_S:
        raise Unprocessable(f"The movement is too short to be compared: it should last at least {SHORTEST_S:g} s.")
    if recording.duration_s > LONGEST_S:
        raise Unprocessable(f"The movement is too long to be compared: it should last at most {LONGEST_S:g} s.")
    start, times = float(recording.times[0]), recording.times - recording.times[0]
    fine = np.arange(0, recording.duration_s + 1e-3, 1 / (RATE_HZ * FINE), dtype=np.float32)
    trust = np.where(recording.visibility < UNSEEN, 0, recording.visibility)
    visible = _interpolated(fine, times, trust)
    world = _interpolated(fine, times, recording.world * trust[..., None])
    visible, world = _smoothed(visible), _smoothed(world)
    world /= np.maximum(visible, 1e-6)[..., None]
    if visible.mean() < LEAST_SEEN:
        raise Unprocessable("Too little of a person can be seen; show the whole body, in good light.")
    return Movement(world, visible, start)


def features(movement: Movement) -> Features:
    parts = (*PARTS, *ACROSS)
    base, tip = (_middle(movement.world, [getattr(part, end) for part in parts]) for end in ("base", "tip"))
    limbs = _unit(tip - base)
    before = movement.world[:, [part.before or 0 for part in PARTS]]
    cosines = (_unit(before - base[:, : len(PARTS)]) * limbs[:, : len(PARTS)]).sum(axis=2)
    angles = np.arccos(cosines.clip(-1, 1)).astype(np.float32)
    seen = _trust(movement.visible, parts)
    return Features(limbs, angles, seen, _sure(movement.visible, seen))


def _middle(points: Floats, places: list[tuple[int, ...]]) -> Floats:
    """The middle of one or two landmarks for each of `places`."""
    first, last = [place[0] for place in places], [place[-1] for place in places]
    return ((points[:, first] + points[:, last]) / 2).astype(np.float32, copy=False)


def _trust(visible: Floats, parts: tuple[Part, ...]) -> Floats:
    """A limb is seen as well as the worst of the landmarks that it hangs on."""
    columns = [visible[:, [*part.base, *part.tip]].min(axis=1) for part in parts]
    return np.stack(columns, axis=1)


def _sure(visible: Floats, seen: Floats) -> Floats:
    columns = [
        np.zeros_like(visible[:, 0]) if part.before is None else np.minimum(seen[:, at], visible[:, part.before])
        for at, part in enumerate(PARTS)
    ]
    return np.stack(columns, axis=1)


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return unit


def _interpolated(at: Floats, times: Floats, values: Floats) -> Floats:
    """Linearly, along the first axis."""
    above = np.searchsorted(times, at).clip(1, len(times) - 1)
    share = ((at - times[above - 1]) / (times[above] - times[above - 1])).clip(0, 1)
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
    between: Floats = values[above - 1] * (1 - share) + values[above] * share
    return between


def _smoothed(fine: Floats) -> Floats:
    """Every `FINE`th frame of `fine`, blurred, so that fast movements do not come out as slow ones."""
    reach = round(3 * BLUR_S * RATE_HZ * FINE)
    steps = np.arange(-reach, reach + 1) / (BLUR_S * RATE_HZ * FINE)
    weights = np.exp(-(steps**2) / 2)
    weights /= weights.sum()
    padded = np.pad(fine, [(reach, reach), *[(0, 0)] * (fine.ndim - 1)], mode="edge")
    ends = [padded[at : at + len(fine) : FINE] * weight for at, weight in enumerate(weights.astype(np.float32))]
    smoothed: Floats = np.sum(ends, axis=0, dtype=np.float32)
    return smoothed
