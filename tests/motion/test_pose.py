import asyncio
import struct
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.motion import MediaPipePose
from deployments.movement.body import MIRRORED
from serve_app.errors import BadRequest, ConfigError, TooLarge, Unprocessable, WrongMedia
from serve_app.types import Job, Kind, Media, Pose, Progress
from tests.motion.conftest import SIZE, media, picture, seen
from tests.pace import within
from tools.dancer.figure import Camera, Dance, perform, record
from tools.dancer.picture import paint, pictures, save

Dances = Callable[..., Media]
CAMERA = Camera(aspect=SIZE[0] / SIZE[1])
LIMBS = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]


async def test_a_photograph(engine: MediaPipePose, photograph: np.ndarray, tmp_path: Path) -> None:
    """Where the astronaut's face and shoulders are was read off the picture."""
    found, done = await seen(engine, picture(tmp_path / "a.png", photograph))
    nose, left, right = found.points[0, [0, 11, 12]]
    assert found.frames == found.seen == done.usage.frames == 1
    assert nose[:2] == pytest.approx([0.435, 0.25], abs=0.02)
    assert left[:2] == pytest.approx([0.60, 0.50], abs=0.03)
    assert right[:2] == pytest.approx([0.22, 0.47], abs=0.03)
    assert found.visibility[0, [0, 11, 12]].min() > 0.9
    assert found.visibility[0, 25:].max() < 0.3  # the legs are not in the picture
    assert np.linalg.norm(found.world[0, 11] - found.world[0, 12]) == pytest.approx(0.36, abs=0.12)  # metres


async def test_a_picture_is_known_by_its_bytes(engine: MediaPipePose, photograph: np.ndarray, tmp_path: Path) -> None:
    expected, _ = await seen(engine, picture(tmp_path / "a.png", photograph))
    found, _ = await seen(engine, picture(tmp_path / "b.png", photograph, "video/mp4"))
    np.testing.assert_array_equal(found.points, expected.points)


async def test_a_video_has_the_dancer_in_every_frame(engine: MediaPipePose, dances: Dances) -> None:
    found, done = await seen(engine, dances())
    times = np.arange(0, 1, 1 / 30)
    truth = record(perform(Dance(1, 1.0), times), times, CAMERA)
    away = np.linalg.norm((found.points - truth.points)[:, LIMBS, :2], axis=2)
    assert found.seen == found.frames == done.usage.frames == len(times)
    assert found.times == pytest.approx(times, abs=0.002)
    assert found.aspect == pytest.approx(CAMERA.aspect, abs=0.01)
    assert np.median(away) < 0.03  # of the picture
    assert done.usage.engine_s > 0


async def test_a_mirrored_video_gives_mirrored_landmarks(engine: MediaPipePose, dances: Dances) -> None:
    plain, _ = await seen(engine, dances())
    mirrored, _ = await seen(engine, dances(mirrored=True))
    x = np.abs(1 - mirrored.points[:, MIRRORED, 0] - plain.points[..., 0])[:, LIMBS]
    assert np.median(x) < 0.02


async def test_frames_between_are_left_out(engine: MediaPipePose, dances: Dances) -> None:
    fast = dances(seconds=0.3, fps=240, size=(320, 240))
    found, _ = await seen(engine, fast)
    assert found.frames in (9, 10)
    assert np.diff(found.times).min() > 0.02
    slower, _ = await seen(engine, fast, max_fps=10)
    assert slower.frames in (3, 4)


async def test_one_frame_is_enough(engine: MediaPipePose, dances: Dances) -> None:
    found, _ = await seen(engine, dances(seconds=1 / 30))
    assert found.frames == found.seen == 1


def _two(shares: tuple[float, float], times: np.ndarray, swap_at: float = 99) -> list[np.ndarray]:
    """Two people side by side, of these sizes."""
    half, aspect = (SIZE[0] // 2 + 80, SIZE[1]), (SIZE[0] // 2 + 80) / SIZE[1]
    cameras = [Camera(metre=0.42 * share, aspect=aspect) for share in shares]
    worlds = [perform(Dance(seed, 3.0), times) for seed in (1, 2)]
    return [
        np.concatenate([paint(w[k], half, c) for w, c in zip(worlds, cameras, strict=True)], 1)
        for k in range(len(times))
    ]


@pytest.mark.parametrize(("shares", "side"), [((1.0, 0.6), 0), ((0.6, 1.0), 1)])
async def test_the_larger_of_two_people_is_followed(
    engine: MediaPipePose, tmp_path: Path, shares: tuple[float, float], side: int
) -> None:
    times = np.arange(0, 1, 1 / 15)
    save(tmp_path / "two.mp4", _two(shares, times), 15)
    found, _ = await seen(engine, media(tmp_path / "two.mp4"))
    hips = found.points[:, [23, 24], 0].mean(axis=1)
    assert found.seen == len(times)
    assert (np.abs(hips - (0.25 + 0.5 * side)) < 0.1).all()


async def test_somebody_who_joins_later_does_not_take_over(engine: MediaPipePose, tmp_path: Path) -> None:
    """Another person, larger, is in the picture from the first second on."""
    times = np.arange(0, 3.5, 1 / 10)
    both = _two((0.7, 1.0), times)
    width = both[0].shape[1] // 2
    alone = [np.concatenate([frame[:, :width], np.full_like(frame[:, width:], 190)], 1) for frame in both]
    save(tmp_path / "joined.mp4", alone[:10] + both[10:], 10)
    found, _ = await seen(engine, media(tmp_path / "joined.mp4"))
    hips = found.points[found.visibility.max(axis=1) > 0][:, [23, 24], 0].mean(axis=1)
    assert len(hips) > 30
    assert (np.abs(hips - 0.25) < 0.1).all()


async def test_nobody_is_a_clear_answer(engine: MediaPipePose, tmp_path: Path) -> None:
    empty = np.full((240, 320, 3), 120, np.uint8)
    save(tmp_path / "empty.mp4", [empty] * 10, 30)
    for source in (picture(tmp_path / "e.png", empty), media(tmp_path / "empty.mp4")):
        with pytest.raises(Unprocessable, match="Nobody can be seen"):
            await seen(engine, source)


async def test_a_turned_photograph_is_looked_at_upright(
    engine: MediaPipePose, photograph: np.ndarray, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    on_its_side = picture(tmp_path / "t.jpg", np.rot90(photograph).copy(), "image/jpeg", exif=exif, quality=95)
    found, _ = await seen(engine, on_its_side)
    assert found.points[0, 0, :2] == pytest.approx([0.435, 0.25], abs=0.02)


async def test_what_cannot_be_looked_at_is_refused_and_the_engine_lives(
    engine: MediaPipePose, photograph: np.ndarray, tmp_path: Path, dances: Dances
) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    whole = Path(dances().path).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "huge.png").write_bytes(_claims(picture(tmp_path / "s.png", photograph[:8, :8]), 30_000))
    for name, error in (("noise.mp4", WrongMedia), ("cut.mp4", BadRequest), ("huge.png", TooLarge)):
        with pytest.raises(error):
            await seen(engine, media(tmp_path / name))
    with pytest.raises(BadRequest, match="max_fps"):
        await seen(engine, dances(), max_fps=0)
    await engine.check()
    await seen(engine, picture(tmp_path / "a.png", photograph))


def _claims(small: Media, side: int) -> bytes:
    """A PNG whose header says that it is as large as that."""
    data = bytearray(Path(small.path).read_bytes())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


async def test_a_video_beyond_the_budget_is_refused(dances: Dances) -> None:
    small = MediaPipePose(MediaPipePose.Options(max_frames=10, max_fps=10))
    await small.load()
    found, _ = await seen(small, dances(), max_fps=5)
    assert found.frames in (5, 6)
    with pytest.raises(TooLarge, match="1 s"):
        await seen(small, dances(seconds=1.5))
    await small.close()


async def test_runs_at_the_same_time_do_not_mix(engine: MediaPipePose, dances: Dances) -> None:
    sources = [dances(seed=seed, seconds=0.7) for seed in (1, 2)]
    alone = [(await seen(engine, source))[0] for source in sources]
    together = await asyncio.gather(*(seen(engine, source) for source in sources))
    for (found, _), expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(found.points, expected.points, atol=1e-3)


async def test_leaving_frees_the_slot_within_a_second(engine: MediaPipePose, tmp_path: Path) -> None:
    few = list(pictures(Dance(1), np.arange(0, 1, 1 / 15), SIZE, camera=CAMERA))
    save(tmp_path / "long.mp4", few * 12, 30)
    job = Job("job", Kind.POSE, Pose(media(tmp_path / "long.mp4")))

    async def cancelled(after_s: float) -> float:
        task = asyncio.create_task(anext(engine.run(job)))
        await asyncio.sleep(after_s)
        task.cancel()
        left = time.perf_counter()
        await asyncio.wait([task])
        return time.perf_counter() - left

    async def closed() -> float:
        run = engine.run(job)
        assert isinstance(await anext(run), Progress)
        left = time.perf_counter()
        await run.aclose()
        return time.perf_counter() - left

    for after_s in (0.0, 0.1, 0.4):
        await within(1, partial(cancelled, after_s))
    await within(1, closed)
    await engine.check()


async def test_a_file_that_is_not_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.task").write_bytes(b"x")
    for path, message in ((tmp_path / "none.task", "no file"), (tmp_path / "other.task", "sha256")):
        other = MediaPipePose(MediaPipePose.Options(path=str(path)))
        with pytest.raises(ConfigError, match=message):
            await other.load()
        await other.close()
