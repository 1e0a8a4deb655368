"""What the pose engine costs over MediaPipe called in a loop, and how long the analysis of a dance takes.

`python -m benchmarks.motion` paints a dancer, 720p at 30 frames per second, and looks at the video in turns: once with
PyAV and MediaPipe in a plain loop, once with the engine as the service uses it, which decodes in a confined process and
looks out for other people. Then it compares two dances of 60 s that are landmarks already. Seconds of CPU, the decoding
process included, are told beside those of the clock: on a machine that does other things too they say more.
"""

import argparse
import asyncio
import hashlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overhead import HERE, described
from deployments.dance import Compare
from deployments.motion import PROJECT, MediaPipePose
from deployments.movement import recording
from serve_app.types import Dance, Done, Job, Kind, Landmarks, Media, Pose
from tools.dancer.figure import Dance as Dancing
from tools.dancer.invariance import Take
from tools.dancer.picture import pictures, save

RESULTS = HERE / "results" / "motion.json"
FPS, SIZE, SCENE_S = 30, (1280, 720), 10
LEAST_RATIO, MOST_S = 0.8, 0.3


def main() -> None:
    options = _arguments()
    if "OMP_NUM_THREADS" not in os.environ:  # Ray gives one to a replica of these engines
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.motion", *sys.argv[1:]], one_thread())
    with tempfile.TemporaryDirectory(prefix="motion-") as folder:
        video = Path(folder) / "dance.mp4"
        scene = list(pictures(Dancing(1, SCENE_S), np.arange(0, SCENE_S, 1 / FPS), SIZE))
        save(video, scene * (options.seconds // SCENE_S), FPS)
        data = video.read_bytes()
        media = Media(str(video), hashlib.sha256(data).hexdigest(), len(data), "video/mp4")
        result = {"seconds": options.seconds, **asyncio.run(_poses(media, options.rounds)), **asyncio.run(_dances())}
    result["met"] = {
        f"poses at least {LEAST_RATIO} x MediaPipe in a loop": result["ratio"] >= LEAST_RATIO,
        f"two dances of 60 s in at most {MOST_S} s": result["analysis_s"] <= MOST_S,
    }
    print(json.dumps(result, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(described("benchmarks.motion") | result, indent=2) + "\n")
    sys.exit(not all(result["met"].values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30, help="length of the video; quick is 10")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args()


async def _poses(video: Media, rounds: int) -> dict[str, Any]:
    """Frames per second of both, medians; the ratio is of neighbours in time."""
    engine = MediaPipePose(MediaPipePose.Options(), slots=1)
    await engine.load()
    job = Job("job", Kind.POSE, Pose(video))
    direct, ours = [], []
    for _ in range(rounds):
        clock = Clock()
        direct.append(clock.per(_in_a_loop(Path(video.path))))
        clock = Clock()
        *_, done = [event async for event in engine.run(job)]
        assert isinstance(done, Done)
        ours.append(clock.per(done.usage.frames))
    await engine.close()
    walls = [a.wall / b.wall for a, b in zip(direct, ours, strict=True)]
    return {
        "direct_cpu_ms_per_frame": round(statistics.median(spent.cpu for spent in direct), 1),
        "engine_cpu_ms_per_frame": round(statistics.median(spent.cpu for spent in ours), 1),
        "cpu_ratio": round(statistics.median(a.cpu / b.cpu for a, b in zip(direct, ours, strict=True)), 2),
        "ratio": round(statistics.median(walls), 2),
        "ratios": [round(ratio, 2) for ratio in walls],
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds per frame."""

    wall: float
    cpu: float


class Clock:
    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), _cpu_s()

    def per(self, frames: int) -> Spent:
        wall, cpu = time.perf_counter() - self.wall, _cpu_s() - self.cpu
        return Spent(1000 * wall / frames, 1000 * cpu / frames)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _in_a_loop(video: Path) -> int:
    import av
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(PROJECT / MediaPipePose.Options().path)),
        running_mode=vision.RunningMode.VIDEO,
    )
    seen = 0
    with vision.PoseLandmarker.create_from_options(options) as landmarker, av.open(str(video)) as container:
        for frame in container.decode(video=0):
            picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=frame.to_ndarray(format="rgb24"))
            landmarker.detect_for_video(picture, round(frame.time * 1000))
            seen += 1
    return seen


async def _dances() -> dict[str, Any]:
    """Seconds from two recordings to everything that is answered, the heatmap included."""
    engine = Compare(Compare.Options())
    await engine.load()
    reference = Landmarks(recording.write(Take(duration_s=60).of(1, noise_seed=0)))
    danced = Landmarks(recording.write(Take(duration_s=60, tempo=1.1, mirrored=True).of(1)))
    job, took = Job("job", Kind.DANCE, Dance(danced, reference)), []
    for _ in range(11):
        clock = Clock()
        assert [event async for event in engine.run(job)]
        took.append(clock.per(1))
    return {
        "analysis_s": round(statistics.median(spent.wall for spent in took) / 1000, 3),
        "analysis_cpu_s": round(statistics.median(spent.cpu for spent in took) / 1000, 3),
    }


if __name__ == "__main__":
    main()
