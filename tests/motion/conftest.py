import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deployments.motion import MediaPipePose
from deployments.movement import recording
from deployments.movement.recording import Recording
from serve_app.types import Artifact, Done, Job, Kind, Media, Pose
from tools.dancer.figure import Camera, Dance
from tools.dancer.picture import video

SIZE = (480, 360)
SLOTS = 2


@pytest.fixture(scope="session")
def dances(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Media]:
    """Makes videos of the dancer, each once."""
    folder, made = tmp_path_factory.mktemp("dances"), {}

    def make(seed: int = 1, seconds: float = 1.0, fps: int = 30, size: tuple[int, int] = SIZE, **looks: Any) -> Media:
        key = repr((seed, seconds, fps, size, looks))
        if key not in made:
            path = folder / f"{len(made)}.mp4"
            camera = Camera(aspect=size[0] / size[1])
            video(path, Dance(seed, seconds), fps, size, **{"camera": camera, **looks})
            made[key] = media(path, "video/mp4")
        return made[key]

    return make


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """A real person: a portrait of the astronaut Eileen Collins (NASA, public domain)."""
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def engine() -> Iterator[MediaPipePose]:
    engine = MediaPipePose(MediaPipePose.Options(), slots=SLOTS)
    asyncio.run(engine.load())
    yield engine
    asyncio.run(engine.close())


def media(path: Path, media_type: str = "") -> Media:
    data = path.read_bytes()
    return Media(str(path), hashlib.sha256(data).hexdigest(), len(data), media_type)


def picture(path: Path, rgb: np.ndarray, media_type: str = "image/png", **options: Any) -> Media:
    Image.fromarray(rgb).save(path, **options)
    return media(path, media_type)


async def seen(engine: MediaPipePose, source: Media, max_fps: float | None = None) -> tuple[Recording, Done]:
    *events, done = [event async for event in engine.run(Job("job", Kind.POSE, Pose(source, max_fps)))]
    assert isinstance(done, Done)
    artifact = events[-1]
    assert isinstance(artifact, Artifact)
    assert artifact.name == "landmarks"
    return recording.read(artifact.data), done
