"""The whole path: a video is decoded, the dancer is found in it, and the dance is compared."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deployments.dance import Compare
from deployments.motion import MediaPipePose
from deployments.movement import recording
from deployments.movement.recording import Recording
from serve_app.errors import BadRequest, Unprocessable
from serve_app.types import Artifact, Dance, Done, Job, Kind, Landmarks, Media
from tests.motion.conftest import SIZE, media, picture, seen
from tools.dancer.figure import Camera
from tools.dancer.picture import save

Dances = Callable[..., Media]
ASPECT = SIZE[0] / SIZE[1]
FILM = {"seconds": 2.4, "fps": 12}


@pytest.fixture
def dance(engine: MediaPipePose) -> Compare:
    return Compare(Compare.Options(), {"pose": engine.run})


@pytest.fixture(scope="module")
def reference(engine: MediaPipePose, dances: Dances) -> Recording:
    return asyncio.run(seen(engine, dances(**FILM)))[0]


async def analysed(dance: Compare, payload: Dance) -> tuple[dict, dict[str, bytes]]:
    *events, done = [event async for event in dance.run(Job("job", Kind.DANCE, payload))]
    assert isinstance(done, Done)
    artifacts = {event.name: event.data for event in events if isinstance(event, Artifact)}
    return json.loads(artifacts["analysis"]), artifacts


@pytest.mark.parametrize(
    ("looks", "least", "most"),
    [
        ({"camera": Camera(x=0.35, y=0.5, metre=0.25, aspect=ASPECT)}, 95, 100),  # elsewhere and smaller
        ({"mirrored": True}, 93, 100),  # MediaPipe itself sees a mirrored picture a little differently
        ({"seed": 4}, 0, 69),
        ({"errors": {"left_elbow": 60}}, 60, 93),
    ],
)
async def test_from_videos_to_a_score(
    dance: Compare, dances: Dances, reference: Recording, looks: dict, least: float, most: float
) -> None:
    kept = Landmarks(recording.write(reference))
    result, _ = await analysed(dance, Dance(dances(**FILM, **looks), kept, language="en"))
    assert least <= result["score"] <= most
    assert result["mirrored"] == looks.get("mirrored", False)
    if "errors" in looks:
        worst = min(result["joints"], key=lambda name: result["joints"][name]["deviation_deg"] or 0)
        assert worst == "left_elbow"
        assert "left elbow" in result["report"]


async def test_two_videos_and_everything_that_was_asked_for(dance: Compare, dances: Dances) -> None:
    short = {"seconds": 1.2, "fps": 15}
    payload = Dance(dances(**short), dances(**short), keypoints=True, language="ko")
    result, artifacts = await analysed(dance, payload)
    assert result["score"] > 99
    assert artifacts["heatmap"].startswith(b"\x89PNG")
    keypoints = json.loads(artifacts["landmarks"])
    assert len(keypoints["times"]) == 18
    assert np.array(keypoints["points"]).shape == (18, 33, 4)
    assert result["report"].startswith("동작 보고: 점수 100")


async def test_a_photograph_that_moves_is_followed(
    engine: MediaPipePose, photograph: np.ndarray, tmp_path: Path
) -> None:
    """A real person: the camera pans and zooms over the astronaut. She does not move, so she is the same all along."""
    views = [photograph[at * 4 : 400 + at * 2, at * 3 : 400 + at * 3] for at in range(24)]
    size = [np.asarray(_resized(view)) for view in views]
    save(tmp_path / "pan.mp4", size, 15)
    found, _ = await seen(engine, media(tmp_path / "pan.mp4"))
    assert found.seen == 24
    nose = 0.435 * 512, 0.25 * 512
    for at, view in ((0, views[0]), (23, views[23])):
        height, width = view.shape[:2]
        expected = (nose[0] - at * 3) / width, (nose[1] - at * 4) / height
        assert found.points[at, 0, :2] == pytest.approx(expected, abs=0.04)


def _resized(view: np.ndarray) -> object:
    from PIL import Image

    return Image.fromarray(view).resize((400, 400))


async def test_the_side_that_is_wrong_is_named(dance: Compare, dances: Dances, tmp_path: Path) -> None:
    good, empty = dances(seconds=1.2, fps=15), picture(tmp_path / "e.png", np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(Unprocessable, match="Nobody") as refused:
        await analysed(dance, Dance(good, empty))
    assert refused.value.param == "reference"
    with pytest.raises(BadRequest) as refused:
        await analysed(dance, Dance(Landmarks(b"nonsense"), Landmarks(b"")))
    assert refused.value.param == "video"
    one_frame = dances(seconds=1 / 30)
    with pytest.raises(Unprocessable, match="too short"):
        await analysed(dance, Dance(good, one_frame))


@pytest.mark.parametrize(("wish", "param"), [({"mirror": "perhaps"}, "mirror"), ({"language": "xx"}, "language")])
async def test_wishes_that_cannot_be_met_are_refused_first(dance: Compare, wish: dict, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await analysed(dance, Dance(Landmarks(b""), Landmarks(b""), **wish))
    assert refused.value.param == param
