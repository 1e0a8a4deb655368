"""The body as the comparison sees it: MediaPipe's landmarks, the joints between them, and left for right."""

from dataclasses import dataclass

import numpy as np

NOSE, LEFT_EAR, RIGHT_EAR = 0, 7, 8
LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, LEFT_PINKY, LEFT_INDEX = 11, 13, 15, 17, 19
LEFT_HIP, LEFT_KNEE, LEFT_ANKLE, LEFT_FOOT = 23, 25, 27, 31
SIDES = ("left", "right")

# Beyond the face, which is listed here, a landmark of the left side has an odd number and its twin follows.
MIRRORED = np.array([0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(at + 1 if at % 2 else at - 1 for at in range(11, 33))])


@dataclass(frozen=True, slots=True)
class Part:
    """A joint with the limb that it moves, or the trunk or head.

    The limb leads from `base` to `tip`, each the middle of one or two landmarks. The joint's angle is the one at `base`
    between `before` and `tip`; the trunk and the head have none. `weight` is its share in a comparison: large for what
    is seen from afar and measured well.
    """

    name: str
    base: tuple[int, ...]
    tip: tuple[int, ...]
    before: int | None = None
    weight: float = 1.0


def _limbs(side: int) -> tuple[Part, ...]:
    shoulder, elbow, wrist, pinky, index, hip, knee, ankle, foot = (
        at + side
        for at in (
            LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, LEFT_PINKY, LEFT_INDEX, LEFT_HIP, LEFT_KNEE, LEFT_ANKLE, LEFT_FOOT,
        )
    )  # fmt: skip
    name = SIDES[side]
    return (
        Part(f"{name}_shoulder", (shoulder,), (elbow,), hip),
        Part(f"{name}_elbow", (elbow,), (wrist,), shoulder),
        Part(f"{name}_wrist", (wrist,), (pinky, index), elbow, 0.25),
        Part(f"{name}_hip", (hip,), (knee,), shoulder),
        Part(f"{name}_knee", (knee,), (ankle,), hip),
        Part(f"{name}_ankle", (ankle,), (foot,), knee, 0.25),
    )


HIPS = (LEFT_HIP, LEFT_HIP + 1)
SHOULDERS = (LEFT_SHOULDER, LEFT_SHOULDER + 1)
PARTS = (
    *_limbs(0),
    *_limbs(1),
    Part("trunk", HIPS, SHOULDERS),
    Part("head", SHOULDERS, (LEFT_EAR, RIGHT_EAR), weight=0.5),
)
# Lines across the body, which tell a turned body from one that faces the camera.
ACROSS = (
    Part("shoulders", (LEFT_SHOULDER + 1,), (LEFT_SHOULDER,), weight=0.5),
    Part("hips", (LEFT_HIP + 1,), (LEFT_HIP,), weight=0.5),
)
JOINTS = tuple(part.name for part in PARTS if part.before is not None)
