"""Writes the tables and the picture of `docs/dance.md`: what the score takes no notice of, and what it does.

Every row is the lowest or highest score over three dances of ten seconds. Both sides carry a measuring error of 1 cm in
every landmark, each its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deployments.movement import heatmap
from deployments.movement.body import MIRRORED
from deployments.movement.comparison import Comparison, compare
from deployments.movement.recording import Recording
from tools.dancer.figure import Body, Camera, Dance, perform, record

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- measured by tools/dancer/invariance.py -->\n", "<!-- end of what was measured -->\n"
SEEDS = (1, 2, 3)
OTHERS = (4, 5, 6)
NOISE_M = 0.01


@dataclass(frozen=True, slots=True)
class Take:
    """One way to dance and film it. `shift_s` above 0 begins later in the clip, below 0 earlier than the clip."""

    fps: float = 30
    tempo: float = 1.0
    shift_s: float = 0.0
    body: Body = Body()  # noqa: RUF009 - frozen
    camera: Camera = Camera()  # noqa: RUF009 - frozen
    mirrored: bool = False
    errors: dict[str, float] = field(default_factory=dict)
    duration_s: float = 10.0

    def of(self, seed: int, noise_seed: int = 1) -> Recording:
        times = np.arange(0, self.duration_s / self.tempo, 1 / self.fps)
        dance = Dance(seed, self.duration_s)
        world = perform(dance, (times - self.shift_s) * self.tempo, self.body, self.errors)
        if self.mirrored:
            world = world[:, MIRRORED] * np.array([-1, 1, 1])
        return record(world, times, self.camera, NOISE_M, noise_seed)


SAME: dict[str, Take] = {
    "danced again": Take(),
    "begins 1.5 s later": Take(shift_s=1.5),
    "begins 1.5 s before the clip": Take(shift_s=-1.5),
    "elsewhere in the picture": Take(camera=Camera(x=0.2, y=0.4)),
    "half as tall": Take(body=Body().scaled(0.5)),
    "twice as tall": Take(body=Body().scaled(2)),
    "filmed from afar": Take(camera=Camera(metre=0.2)),
    "longer arms and legs": Take(body=Body(upper_arm=0.33, forearm=0.3, thigh=0.5, shin=0.5)),
    "mirrored": Take(mirrored=True),
    "tempo 0.8": Take(tempo=0.8),
    "tempo 0.9": Take(tempo=0.9),
    "tempo 1.1": Take(tempo=1.1),
    "tempo 1.25": Take(tempo=1.25),
    "24 frames per second": Take(fps=24),
    "60 frames per second": Take(fps=60),
    "240 frames per second": Take(fps=240),
    "mirrored, tempo 1.2, 24 frames per second, smaller": Take(24, 1.2, body=Body().scaled(0.6), mirrored=True),
}
ERRORS_DEG = (0, 5, 10, 20, 30, 45, 60)
WRONG = ("left_elbow", "right_shoulder", "left_knee")
EXAMPLE = Take(errors={"left_elbow": 40, "right_knee": 20, "left_shoulder": 15})


def same() -> Iterator[tuple[str, float]]:
    """The lowest score of each row."""
    for name, take in SAME.items():
        yield name, min(_score(take.of(seed), seed) for seed in SEEDS)


def other() -> float:
    """The highest score of another dance."""
    return max(_score(Take().of(danced), seed) for seed in SEEDS for danced in OTHERS)


def wrong(joints: tuple[str, ...] = WRONG, seed: int = 1) -> Iterator[tuple[int, float]]:
    """The score by how many degrees those joints are off all the time."""
    for degrees in ERRORS_DEG:
        yield degrees, _score(Take(errors=dict.fromkeys(joints, float(degrees))).of(seed), seed)


def example() -> Comparison:
    return compare(EXAMPLE.of(1), Take().of(1, noise_seed=0))


def document() -> str:
    rows = [("The same dance", "lowest score"), ("---", "---:"), *((name, f"{score:.1f}") for name, score in same())]
    lines = [f"| {name} | {score} |" for name, score in rows]
    lines += ["", f"Another dance scores at most {other():.1f} (nine pairs).", ""]
    degrees, scores = zip(*wrong(), strict=True)
    lines += ["| left elbow, right shoulder and left knee off by | " + " | ".join(f"{d}°" for d in degrees) + " |"]
    lines += ["|---|" + "---:|" * len(degrees), "| score | " + " | ".join(f"{s:.1f}" for s in scores) + " |"]
    return "\n".join(lines) + "\n"


def _score(danced: Recording, seed: int) -> float:
    return compare(danced, Take().of(seed, noise_seed=0)).score


def between(text: str, put: Callable[[str], str]) -> str:
    """`text` with what stands between the two marks replaced."""
    before, _, rest = text.partition(BEGIN)
    inside, _, after = rest.partition(END)
    return before + BEGIN + put(inside) + END + after


def main() -> None:
    page = DOCS / "dance.md"
    page.write_text(between(page.read_text("utf-8"), lambda _: document()), "utf-8")
    (DOCS / "dance-heatmap.png").write_bytes(heatmap.draw(example()))


if __name__ == "__main__":
    main()
