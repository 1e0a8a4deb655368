"""Writes the tables and the picture of `docs/dance.md`: what the score takes no notice of, and what it does.

Every row is the lowest or highest score over three dances of ten seconds. Both sides carry a measuring error of 1 cm in
every landmark, each its own. With `--video` the dances are painted and looked at by the pose engine, too (minutes).
"""

import argparse
import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deployments.motion import MediaPipePose
from deployments.movement import heatmap, recording
from deployments.movement.body import MIRRORED
from deployments.movement.comparison import Comparison, compare
from deployments.movement.recording import Recording
from serve_app.types import Artifact, Job, Kind, Media, Pose
from tools.dancer.figure import Body, Camera, Dance, Numbers, perform, record
from tools.dancer.picture import pictures, save

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- measured by tools/dancer/invariance.py -->\n", "<!-- end of what was measured -->\n"
FILMED = "<!-- filmed by tools/dancer/invariance.py -->\n"
FILM_S, FILM_FPS, FILM_SIZE = 4.0, 15, (480, 360)
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


def filmed() -> str:
    """The same through MP4 files and MediaPipe."""
    aspect = FILM_SIZE[0] / FILM_SIZE[1]
    plain: dict[str, Any] = {"camera": Camera(aspect=aspect)}
    shots: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "in 1280 x 720": ({}, {"size": (1280, 720), "camera": Camera()}),
        "elsewhere in the picture": ({}, {"camera": Camera(x=0.3, y=0.5, aspect=aspect)}),
        "half as large in the picture": ({}, {"camera": Camera(metre=0.21, aspect=aspect)}),
        "mirrored": ({}, {"mirrored": True}),
        "tempo 0.8": ({"tempo": 0.8}, {}),
        "tempo 1.25": ({"tempo": 1.25}, {}),
        "30 frames per second": ({"fps": 30}, {}),
        "begins 0.7 s later": ({"shift_s": 0.7}, {}),
        "left elbow off by 40°": ({}, {"errors": {"left_elbow": 40.0}}),
        "another dance": ({"seed": 4}, {}),
        "a third dance": ({"seed": 2}, {}),
    }
    reference = _film({}, plain)
    lines = ["| Painted, filmed and seen by MediaPipe | score |", "|---|---:|"]
    for name, (time, looks) in shots.items():
        lines.append(f"| {name} | {compare(_film(time, {**plain, **looks}), reference).score:.1f} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Retimed:
    dance: Dance
    tempo: float
    shift_s: float

    def angles(self, times: Numbers) -> Numbers:
        return self.dance.angles((times - self.shift_s) * self.tempo)


def _film(time: dict[str, Any], looks: dict[str, Any]) -> Recording:
    time = {"seed": 1, "fps": FILM_FPS, "tempo": 1.0, "shift_s": 0.0, **time}
    looks = {"size": FILM_SIZE, **looks}
    times = np.arange(0, FILM_S / time["tempo"], 1 / time["fps"])
    dance: Any = Retimed(Dance(time["seed"], FILM_S), time["tempo"], time["shift_s"])
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        save(Path(file.name), pictures(dance, times, **looks), time["fps"])
        data = Path(file.name).read_bytes()
        media = Media(file.name, hashlib.sha256(data).hexdigest(), len(data), "video/mp4")
        return asyncio.run(_seen(media))


async def _seen(media: Media) -> Recording:
    engine = MediaPipePose(MediaPipePose.Options())
    await engine.load()
    events = [event async for event in engine.run(Job("job", Kind.POSE, Pose(media)))]
    await engine.close()
    return next(recording.read(event.data) for event in events if isinstance(event, Artifact))


def _score(danced: Recording, seed: int) -> float:
    return compare(danced, Take().of(seed, noise_seed=0)).score


def _replaced(text: str, begin: str, new: str) -> str:
    """`text` with `new` from the mark `begin` to the end mark."""
    before, _, rest = text.partition(begin)
    return before + begin + new + END + rest.partition(END)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", action="store_true", help="also measure through videos")
    page = DOCS / "dance.md"
    text = _replaced(page.read_text("utf-8"), BEGIN, document())
    if parser.parse_args().video:
        text = _replaced(text, FILMED, filmed())
    page.write_text(text, "utf-8")
    (DOCS / "dance-heatmap.png").write_bytes(heatmap.draw(example()))


if __name__ == "__main__":
    main()
