"""The dancer's body: from the angles of its joints to the 33 landmarks.

Directions as in MediaPipe's world landmarks: x to the right of the picture, y down, z away from the camera. The dancer
faces the camera, so that the left side is on the right of the picture.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deployments.movement.recording import Recording

Numbers = NDArray[np.float64]

# Per side: shoulder (away from the body, to the front), elbow, wrist; hip (away, to the front), knee, ankle; degrees.
LIMB = ("shoulder", "shoulder_front", "elbow", "wrist", "hip", "hip_front", "knee", "ankle")
NAMES = (*(f"left_{name}" for name in LIMB), *(f"right_{name}" for name in LIMB), "lean", "turn", "nod")
LEAST = {"shoulder": 10, "shoulder_front": -10, "elbow": 5, "wrist": -15, "hip": 2, "hip_front": -5, "knee": 4}
MOST = {"shoulder": 165, "shoulder_front": 60, "elbow": 120, "wrist": 15, "hip": 25, "hip_front": 35, "knee": 45}
TRUNK = {"lean": 12, "turn": 20, "nod": 8}
BEAT_S = 0.6


@dataclass(frozen=True, slots=True)
class Body:
    """Lengths in metres."""

    trunk: float = 0.52
    shoulders: float = 0.36
    hips: float = 0.22
    upper_arm: float = 0.28
    forearm: float = 0.25
    hand: float = 0.10
    thigh: float = 0.42
    shin: float = 0.42
    foot: float = 0.18
    head: float = 0.24

    def scaled(self, factor: float) -> "Body":
        return replace(self, **{name: getattr(self, name) * factor for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Dance:
    """A pose per beat, drawn from `seed`, with smooth ways between them. It begins and ends standing."""

    seed: int
    duration_s: float = 10.0
    calm: float = 1.0
    """Size of the movements: 0 is standing."""

    def angles(self, times: Numbers) -> Numbers:
        """Degrees, (times, NAMES)."""
        beats = int(np.ceil(self.duration_s / BEAT_S)) + 2
        random = np.random.default_rng(self.seed)
        low, high = _range(LEAST, -1), _range(MOST, 1)
        poses = low + random.random((beats, len(NAMES))) * (high - low) * self.calm
        poses[0] = poses[-1] = low + 0.05 * (high - low)
        poses[[0, -1], -len(TRUNK) :] = 0
        place = (times / BEAT_S).clip(0, beats - 1.001)
        beat = place.astype(int)
        share = (1 - np.cos(np.pi * (place - beat))) / 2
        return poses[beat] * (1 - share[:, None]) + poses[beat + 1] * share[:, None]


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the dancer stands in the picture: the middle of the hips, and how much of the height a metre takes."""

    x: float = 0.5
    y: float = 0.55
    metre: float = 0.42
    aspect: float = 16 / 9


def perform(dance: Dance, times: Numbers, body: Body | None = None, errors: dict[str, float] | None = None) -> Numbers:
    """World landmarks, (times, 33, 3). `errors` are added to the joints' angles, in degrees."""
    angles = dance.angles(times)
    for name, degrees in (errors or {}).items():
        angles[:, NAMES.index(name)] += degrees
    return landmarks(angles, body or Body())


def record(
    world: Numbers,
    times: Numbers,
    camera: Camera | None = None,
    noise_m: float = 0.0,
    seed: int = 0,
    visibility: float = 0.99,
) -> Recording:
    """What a pose engine would see that errs by `noise_m` in each direction, independently in every frame."""
    camera = camera or Camera()
    world = world + np.random.default_rng(seed).normal(0, noise_m, world.shape) if noise_m else world
    points = np.empty((*world.shape[:2], 4))
    points[..., 0] = camera.x + world[..., 0] * camera.metre / camera.aspect
    points[..., 1] = camera.y + world[..., 1] * camera.metre
    points[..., 2] = world[..., 2] * camera.metre / camera.aspect
    points[..., 3] = visibility
    arrays = (np.asarray(array, np.float32) for array in (times, points, world))
    return Recording(*arrays, aspect=camera.aspect)


def landmarks(angles: Numbers, body: Body) -> Numbers:
    """(poses, 33, 3) in metres around the middle of the hips."""
    by_name = dict(zip(NAMES, np.radians(angles).T, strict=True))
    out = np.zeros((len(angles), 33, 3))
    lean, turn = by_name["lean"], by_name["turn"]
    up = np.stack([np.sin(lean), -np.cos(lean), np.zeros_like(lean)], axis=1)
    across = np.stack([np.cos(turn) * np.cos(lean), np.cos(turn) * np.sin(lean), np.sin(turn)], axis=1)
    front = np.cross(across, up)  # out of the chest
    front *= -np.sign(front[:, 2:])
    chest = up * body.trunk
    for side, sign in enumerate((1, -1)):
        angle = {name: by_name[f"{'left' if sign > 0 else 'right'}_{name}"] for name in LIMB}
        shoulder = chest + sign * across * body.shoulders / 2
        _arm(out, 11 + side, shoulder, angle, sign * across, -up, front, body)
        hip = np.zeros_like(chest)
        hip[:, 0] = sign * body.hips / 2
        _leg(out, 23 + side, hip, angle, sign, body)
    _head(out, chest, up, across, front, by_name["nod"], body)
    return out


def _arm(out, at, shoulder, angle, outward, down, front, body) -> None:  # type: ignore[no-untyped-def]
    upper = _direction(angle["shoulder"], angle["shoulder_front"], outward, down, front)
    lower = _bent(upper, angle["elbow"], 0.8 * front - 0.6 * down)
    hand = _bent(lower, angle["wrist"], front)
    elbow = shoulder + upper * body.upper_arm
    wrist = elbow + lower * body.forearm
    aside = np.cross(hand, front) * 0.02
    out[:, at], out[:, at + 2], out[:, at + 4] = shoulder, elbow, wrist
    out[:, at + 6], out[:, at + 8] = wrist + hand * body.hand - aside, wrist + hand * body.hand + aside
    out[:, at + 10] = wrist + hand * body.hand * 0.6 + 2 * aside


def _leg(out, at, hip, angle, sign, body) -> None:  # type: ignore[no-untyped-def]
    count = len(hip)
    outward, down, front = (np.tile(axis, (count, 1)) for axis in ((sign, 0, 0), (0, 1, 0), (0, 0, -1)))
    thigh = _direction(angle["hip"], angle["hip_front"], outward, down, front)
    shin = _bent(thigh, angle["knee"], -front)
    knee = hip + thigh * body.thigh
    ankle = knee + shin * body.shin
    foot = _bent(shin, np.full(count, np.radians(80)) + angle["ankle"], front + 0.3 * outward)
    out[:, at], out[:, at + 2], out[:, at + 4] = hip, knee, ankle
    out[:, at + 6], out[:, at + 8] = ankle + shin * 0.05 - foot * 0.04, ankle + foot * body.foot


def _head(out, chest, up, across, front, nod, body) -> None:  # type: ignore[no-untyped-def]
    up = _bent(up, nod, front)
    front = np.cross(across, up) * np.sign(-np.cross(across, up)[:, 2:])
    middle = chest + up * body.head * 0.75
    size = body.head / 2
    spots = {0: (0, -0.1, 0.95), 2: (0.3, 0.25, 0.8), 5: (-0.3, 0.25, 0.8), 7: (0.75, 0, 0), 8: (-0.75, 0, 0)}
    spots |= {9: (0.2, -0.5, 0.75), 10: (-0.2, -0.5, 0.75), 1: (0.15, 0.25, 0.85), 3: (0.45, 0.25, 0.7)}
    spots |= {4: (-0.15, 0.25, 0.85), 6: (-0.45, 0.25, 0.7)}
    for at, (x, y, z) in spots.items():
        out[:, at] = middle + (across * x + up * y + front * z) * size


def _direction(away: Numbers, forward: Numbers, outward: Numbers, down: Numbers, front: Numbers) -> Numbers:
    """`away` from hanging down, in the plane that is turned `forward` from the body's own."""
    aside = np.cos(forward)[:, None] * outward + np.sin(forward)[:, None] * front
    return np.cos(away)[:, None] * down + np.sin(away)[:, None] * aside


def _bent(along: Numbers, angle: Numbers, towards: Numbers) -> Numbers:
    """`along`, turned by `angle` in the plane that `towards` makes with it."""
    sideways = towards - (towards * along).sum(axis=1, keepdims=True) * along
    sideways /= np.maximum(np.linalg.norm(sideways, axis=1, keepdims=True), 1e-9)
    return np.cos(angle)[:, None] * along + np.sin(angle)[:, None] * sideways


def _range(limits: dict[str, int], sign: int) -> Numbers:
    known = {**limits, "ankle": 10 * sign, **{name: sign * size for name, size in TRUNK.items()}}
    return np.array([known[name.partition("_")[2] if name not in TRUNK else name] for name in NAMES], float)
