"""Poses with MediaPipe: 33 landmarks per frame of one person, out of a picture or a video, on a CPU or a GPU."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, TooLarge, Unprocessable, WrongMedia
from serve_app.types import Artifact, Done, Event, Job, Kind, Media, Pose, Progress, Usage

if TYPE_CHECKING:
    from deployments.media import Frame, Limits
    from deployments.movement.tracking import Tracker

PROJECT = Path(__file__).parents[1]
ARTIFACT = "landmarks"
MEDIA_TYPE = "application/vnd.megacity.movement"
REPORT_S = 1.0  # between two reports of progress
LIBRARIES = "MediaPipe needs the system libraries libEGL and libGLESv2, also on a CPU: apt-get install libegl1 libgles2"


class MediaPipePose(Engine):
    """Follows one person: the largest and most central at first, and the same one from then on.

    A frame in which that person is not seen stays empty. Nobody in any frame is `Unprocessable`. `max_fps` of a
    request can only lower the engine's. The fraction of a progress report is of the most frames that are taken, since
    nobody knows how long a video is before its end.
    """

    class Options(EngineOptions):
        path: str = "models/pose-full/pose.task"
        """A MediaPipe pose landmarker; a relative path counts from the current directory, then from the project."""
        sha256: str = "855ccc852f3c427d42248f4267175f86c40ff5b6ec0d963bf70959573c77950c"
        """What the file must be; empty takes any."""
        device: Literal["cpu", "gpu", "auto"] = "cpu"
        """`auto` is the GPU if MediaPipe can work on it, and else the CPU."""
        max_fps: float = Field(default=30.0, gt=0, le=60)
        """Frames of each second of video that are looked at; those between are left out."""
        max_frames: int = Field(default=9_000, ge=1, le=36_000)
        """A video with more frames to look at is refused."""
        max_seconds: float = Field(default=600.0, gt=0, le=3600)
        """A longer video is refused."""
        side_px: int = Field(default=960, ge=256, le=1280)
        """Longer side of the picture in which people are looked for."""
        people: int = Field(default=4, ge=1, le=8)
        """How many people are told apart to find the one to follow."""
        confidence: float = Field(default=0.5, ge=0, le=1)
        """Below this nobody is seen, or has been lost."""

    options: Options
    kinds = frozenset({Kind.POSE})

    _workers: ThreadPoolExecutor
    _model: bytes
    _gpu: bool

    async def load(self) -> None:
        """Raises ConfigError for a file that is not the model, or a machine that lacks what MediaPipe needs."""
        self._workers = ThreadPoolExecutor(self.slots, thread_name_prefix="pose")
        await asyncio.get_running_loop().run_in_executor(self._workers, self._load)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        payload = job.payload
        assert isinstance(payload, Pose)
        if payload.max_fps is not None and not 0 < payload.max_fps <= 1000:
            raise BadRequest("max_fps must be more than 0.", param="max_fps")
        tracker = self._tracker()
        try:
            async with aclosing(self._followed(payload, tracker)) as reports:
                async for report in reports:
                    yield report
            recorded = await asyncio.to_thread(tracker.recorded)
        finally:
            self._workers.submit(tracker.close)  # waits there for the frame that is being looked at
        if recorded is None:
            raise Unprocessable("Nobody can be seen. Send a picture or a video that shows one whole person.")
        yield Artifact(ARTIFACT, MEDIA_TYPE, recorded)
        yield Done(Usage(frames=tracker.frames, engine_s=time.perf_counter() - started))

    async def check(self) -> None:
        """Look at an empty picture."""
        await asyncio.get_running_loop().run_in_executor(self._workers, self._warm_up)

    async def close(self) -> None:
        if hasattr(self, "_workers"):
            await asyncio.to_thread(self._workers.shutdown)

    async def _followed(self, payload: Pose, tracker: "Tracker") -> AsyncGenerator[Progress]:
        """Show the tracker every frame."""
        from deployments.media import Limits

        limits = Limits(side_px=self.options.side_px, seconds=self.options.max_seconds)
        max_fps = min(payload.max_fps or self.options.max_fps, self.options.max_fps)
        loop, reported = asyncio.get_running_loop(), time.perf_counter()
        async with aclosing(_ahead(_shown(payload.media, limits, max_fps))) as frames:
            async for frame in frames:
                if tracker.frames >= self.options.max_frames:
                    longest = self.options.max_frames / max_fps
                    raise TooLarge(f"The video is longer than the {longest:.0f} s that are taken here; cut it.")
                await loop.run_in_executor(self._workers, tracker.see, frame.rgb, frame.time_s)
                if time.perf_counter() - reported > REPORT_S:
                    reported = time.perf_counter()
                    yield Progress(tracker.frames / self.options.max_frames, f"{tracker.frames} frames")

    def _load(self) -> None:
        file = next(
            (f for f in (Path(self.options.path).expanduser(), PROJECT / self.options.path) if f.is_file()), None
        )
        if file is None:
            raise ConfigError(f"path: there is no file '{self.options.path}'; `python -m tools.pose_task` makes it")
        self._model = file.read_bytes()
        if self.options.sha256 not in ("", hashlib.sha256(self._model).hexdigest()):
            raise ConfigError(f"path: '{self.options.path}' is not the file that `sha256` names")
        try:
            self._gpu = self._works_on_gpu() if self.options.device == "auto" else self.options.device == "gpu"
            self._warm_up()
        except (ImportError, OSError) as error:
            remedy = LIBRARIES if "EGL" in str(error) or "GLES" in str(error) else "install the package mediapipe"
            raise ConfigError(f"mediapipe cannot be loaded ({error}); {remedy}") from error
        except RuntimeError as error:
            raise ConfigError(f"device: MediaPipe cannot work on '{self.options.device}' here; use another") from error

    def _works_on_gpu(self) -> bool:
        self._gpu = True
        try:
            self._warm_up()
        except RuntimeError:
            return False
        return True

    def _warm_up(self) -> None:
        import numpy as np

        tracker = self._tracker()
        tracker.see(np.zeros((256, 256, 3), np.uint8), 0.0)
        tracker.close()

    def _tracker(self) -> "Tracker":
        from deployments.movement.tracking import Tracker

        return Tracker(self._model, self._gpu, self.options.people, self.options.confidence)


async def _shown(media: Media, limits: "Limits", max_fps: float) -> AsyncGenerator["Frame"]:
    """The frames of a video, or the one frame that a picture is. What the caller says of the file is only a hint."""
    from deployments.media import Frame, frames, image

    if media.media_type.startswith("image/"):
        try:
            yield Frame(await image(media, limits), 0.0)
            return
        except WrongMedia as error:
            if error.code != "media_format":
                raise
    try:
        async with aclosing(frames(media, limits, max_fps)) as video:
            async for frame in video:
                yield frame
    except WrongMedia as error:
        if error.code != "media_picture":
            raise
        yield Frame(await image(media, limits), 0.0)


async def _ahead(frames: AsyncGenerator["Frame"]) -> AsyncGenerator["Frame"]:
    """The same frames, each fetched while the one before it is being looked at."""
    async with aclosing(frames):
        coming = asyncio.ensure_future(anext(frames, None))
        try:
            while (frame := await coming) is not None:
                coming = asyncio.ensure_future(anext(frames, None))
                yield frame
        finally:
            coming.cancel()
            await asyncio.wait([coming])
            if not coming.cancelled():
                coming.exception()  # it was raised above, or nobody wants it any more
