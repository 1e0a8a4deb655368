import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deployments import media
from deployments.media import Frame, Limits
from serve_app.errors import BadRequest, TooLarge, WrongMedia
from serve_app.types import Media
from tests.media import making
from tests.media.watching import children, descriptors, watched
from tests.pace import within

Here = Callable[[Path], Media]


async def seen(file: Media, limits: Limits | None = None, max_fps: float | None = None) -> list[Frame]:
    return [frame async for frame in media.frames(file, limits or Limits(), max_fps)]


def corner(rgb: np.ndarray) -> str:
    """Where the red quarter is."""
    height, width = rgb.shape[:2]
    red = rgb[..., 0].astype(int) - rgb[..., 1] > 80
    rows, columns = np.nonzero(red)
    assert len(rows), "there is no red"
    return f"{'upper' if rows.mean() < height / 2 else 'lower'} {'left' if columns.mean() < width / 2 else 'right'}"


@pytest.mark.parametrize(
    ("codec", "format"), [("libx264", "mp4"), ("libx265", "mov"), ("libvpx-vp9", "webm"), ("libvpx", "matroska")]
)
async def test_every_frame_comes_in_its_place(tmp_path: Path, here: Here, codec: str, format: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    frames = await seen(here(making.video(tmp_path / "x", 20, codec=codec, format=format, options=options)))
    assert len(frames) == 20
    assert frames[0].rgb.shape == (96, 160, 3)
    assert frames[0].rgb.dtype == np.uint8
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(20)], abs=0.002)
    greys = [int(frame.rgb[60:, 100:].mean()) for frame in frames]
    assert greys == pytest.approx([60 + 2 * number for number in range(20)], abs=3)
    assert corner(frames[0].rgb) == "upper left"


async def test_one_frame_is_a_video(tmp_path: Path, here: Here) -> None:
    frames = await seen(here(making.video(tmp_path / "x.mp4", 1)))
    assert [frame.time_s for frame in frames] == [0.0]


async def test_frames_between_are_left_out(tmp_path: Path, here: Here) -> None:
    file = here(making.video(tmp_path / "x.mp4", 240, fps=240))
    assert len(await seen(file)) == 60
    ten = await seen(file, max_fps=10)
    assert [frame.time_s for frame in ten] == pytest.approx([number / 10 for number in range(10)], abs=0.01)
    with pytest.raises(TooLarge, match="100 frames"):
        await seen(file, Limits(frames=100))


async def test_a_video_of_uneven_frames_keeps_their_times(tmp_path: Path, here: Here) -> None:
    times = [0, 40, 50, 500, 540, 2000]
    frames = await seen(here(making.video(tmp_path / "x.mp4", 6, times=times)))
    assert [round(frame.time_s * 1000) for frame in frames] == pytest.approx(times, abs=2)


async def test_it_ends_at_the_limit_of_seconds(tmp_path: Path, here: Here) -> None:
    file = here(making.video(tmp_path / "x.mp4", 90))
    with pytest.raises(TooLarge, match="1 seconds"):
        await seen(file, Limits(seconds=1))


@pytest.mark.parametrize(
    ("degrees", "mirrored", "where", "shape"),
    [
        (0, False, "upper left", (96, 160)),
        (90, False, "upper right", (160, 96)),
        (180, False, "lower right", (96, 160)),
        (270, False, "lower left", (160, 96)),
        (0, True, "upper right", (96, 160)),
        (90, True, "lower right", (160, 96)),
        (100, False, "upper right", (160, 96)),
        (-30, False, "upper left", (96, 160)),
    ],
)
async def test_a_video_is_upright(
    tmp_path: Path, here: Here, degrees: float, mirrored: bool, where: str, shape: tuple[int, int]
) -> None:
    file = making.turned(making.video(tmp_path / "x.mp4", 2), degrees, mirrored)
    frames = await seen(here(file))
    assert (corner(frames[0].rgb), frames[0].rgb.shape[:2]) == (where, shape)
    assert frames[0].rgb.flags.c_contiguous


async def test_it_is_scaled_down_to_the_longer_side(tmp_path: Path, here: Here) -> None:
    file = here(making.video(tmp_path / "x.mp4", 2, (1920, 1080)))
    assert (await seen(file))[0].rgb.shape == (720, 1280, 3)
    assert (await seen(file, Limits(side_px=321)))[0].rgb.shape == (181, 321, 3)
    with pytest.raises(TooLarge, match="1000000 pixels"):
        await seen(file, Limits(pixels=1_000_000))


async def test_a_video_that_was_cut_off_is_said(tmp_path: Path, here: Here) -> None:
    for options in ({}, {"movflags": "faststart"}):
        path = making.video(tmp_path / "x.mp4", 60, options=options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(BadRequest, match="cut off"):
            await seen(here(path))


async def test_a_codec_of_yesterday_is_refused(tmp_path: Path, here: Here) -> None:
    with pytest.raises(WrongMedia, match=r"H\.264"):
        await seen(here(making.video(tmp_path / "x.mp4", 2, codec="mpeg4")))


async def test_a_picture_is_no_video(tmp_path: Path, here: Here) -> None:
    with pytest.raises(WrongMedia, match="is a picture"):
        await seen(here(making.picture(tmp_path / "x.mp4", format="image2pipe")))


@pytest.mark.parametrize("codec", ["png", "mjpeg", "libwebp", "gif"])
async def test_pictures_of_every_kind(tmp_path: Path, here: Here, codec: str) -> None:
    format = {"libwebp": "webp", "gif": "gif"}.get(codec, "image2pipe")
    rgb = await media.image(here(making.picture(tmp_path / "x", codec, format)))
    assert rgb.shape == (40, 80, 3)
    assert corner(rgb) == "upper left"


CORNERS = ["upper left", "upper right", "lower right", "lower left"] * 2


@pytest.mark.parametrize(("orientation", "where"), list(enumerate(CORNERS, start=1)))
async def test_a_photograph_is_upright(tmp_path: Path, here: Here, orientation: int, where: str) -> None:
    path = making.oriented(making.picture(tmp_path / "x.jpg", "mjpeg", "image2pipe"), orientation)
    rgb = await media.image(here(path))
    assert rgb.shape == ((40, 80, 3) if orientation < 5 else (80, 40, 3))
    assert corner(rgb) == where


async def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, here: Here) -> None:
    for width, height in ((30_000, 30_000), (13_300, 13_300), (60_000, 1_000)):
        file = here(making.bomb(tmp_path / "x.png", width, height))
        with watched() as cost, pytest.raises(TooLarge, match="pixels"):
            await media.image(file)
        assert cost.cpu_s < 1
        assert cost.peak_mb < 512


async def test_heic_is_named(tmp_path: Path, here: Here) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(100))
    with pytest.raises(WrongMedia, match="HEIC"):
        await media.image(here(path))


async def test_files_that_were_changed_at_random_break_nothing(tmp_path: Path, here: Here) -> None:
    """Whatever becomes of the worker, what the caller hears is an answer or a refusal."""
    random = np.random.default_rng(7)
    originals = [
        making.video(tmp_path / "a.mp4", 10).read_bytes(),
        making.video(tmp_path / "b.webm", 10, codec="libvpx", format="webm").read_bytes(),
    ]
    broken = tmp_path / "broken"
    for turn in range(12):
        data = bytearray(originals[turn % 2])
        for at in random.integers(0, len(data), 20):
            data[at] = random.integers(0, 256)
        broken.write_bytes(data)
        try:
            assert await seen(here(broken))
        except (BadRequest, TooLarge, WrongMedia):
            continue


async def test_leaving_ends_the_worker(tmp_path: Path, here: Here) -> None:
    file = here(making.video(tmp_path / "x.mp4", 200, (640, 360)))
    await seen(file, Limits(frames=1000))
    before = descriptors(), children()

    async def closed(pieces: int) -> float:
        frames = media.frames(file)
        for _ in range(pieces):
            await anext(frames)
        started = time.perf_counter()
        await frames.aclose()
        return time.perf_counter() - started

    for pieces in (1, 3):
        await within(1, partial(closed, pieces))
    task = asyncio.create_task(seen(file))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (descriptors(), children()) == before


async def test_the_worker_can_open_nothing(tmp_path: Path) -> None:
    """Neither a file nor a connection nor a process, once it has been confined."""
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import worker, socket, os\n"
        "worker.confine({'memory_mb': 512, 'cpu_s': 5})\n"
        "for what in (lambda: open('/etc/passwd'), socket.socket, os.pipe, lambda: os.open('/tmp/x', os.O_CREAT)):\n"
        "    try: what(); print('opened')\n"
        "    except OSError: print('refused')\n"
    )
    folder = Path(media.__file__).parent
    run = subprocess.run([sys.executable, "-I", "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["refused"] * 4


async def test_it_starts_quickly(tmp_path: Path, here: Here) -> None:
    file = here(making.picture(tmp_path / "x.png", format="image2pipe"))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        await media.image(file)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.3, os.getloadavg()
