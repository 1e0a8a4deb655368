"""A recorded movement, and the compact form in which it is kept and passed on.

The form, all numbers little-endian: 8 bytes `MCMOVE01`; the length of the header as uint32; the header, JSON with
`frames`, `seen` (frames with somebody in them), `duration_s` and `aspect`; then float32 arrays, row by row: `times`
(frames), `points` (frames, 33, 4), `world` (frames, 33, 3). Nothing follows.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import BadRequest

Floats = NDArray[np.float32]

MAGIC = b"MCMOVE01"
LANDMARKS = 33
MAX_FRAMES = 36_000
MAX_HEADER_BYTES = 1_024
BYTES_PER_FRAME = 4 * (1 + LANDMARKS * 4 + LANDMARKS * 3)
LARGEST = 1e4  # of any coordinate: far beyond a picture or a room


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """MediaPipe's 33 landmarks over time. A frame in which nobody was seen has visibility 0 throughout.

    times: seconds, rising. points: x and y as fractions of the picture's width and height, z in the unit of x, and
    visibility from 0 to 1. world: metres around the middle of the hips; x to the right of the picture, y down, z away.
    aspect: the picture's width through its height.
    """

    times: Floats
    points: Floats
    world: Floats
    aspect: float = 1.0

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return float(self.times[-1] - self.times[0]) if self.frames else 0.0

    @property
    def visibility(self) -> Floats:
        visibility: Floats = self.points[:, :, 3]
        return visibility

    @property
    def seen(self) -> int:
        """Frames with somebody in them."""
        return int((self.visibility.max(axis=1) > 0).sum())

    def keypoints(self) -> dict[str, Any]:
        """For JSON: per frame, the time and 33 rows x, y, z, visibility."""
        rounded = self.points.astype(np.float64).round(4)
        return {"times": self.times.astype(np.float64).round(3).tolist(), "points": rounded.tolist()}


def write(recording: Recording) -> bytes:
    described = {
        "frames": recording.frames,
        "seen": recording.seen,
        "duration_s": round(recording.duration_s, 3),
        "aspect": round(float(recording.aspect), 6),
    }
    header = json.dumps(described).encode()
    arrays = (recording.times, recording.points, recording.world)
    body = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays)
    return MAGIC + len(header).to_bytes(4, "little") + header + body


def read(data: bytes) -> Recording:
    """The recording. Raises BadRequest for anything that `write` could not have written."""
    frames, aspect, begin = _header(data)
    if len(data) != begin + frames * BYTES_PER_FRAME:
        raise _broken("it is not as long as its header says")
    numbers = np.frombuffer(data, "<f4", offset=begin)
    times, points, world = np.split(numbers, [frames, frames * (1 + LANDMARKS * 4)])
    recording = Recording(times, points.reshape(frames, LANDMARKS, 4), world.reshape(frames, LANDMARKS, 3), aspect)
    _check(recording)
    return recording


def _header(data: bytes) -> tuple[int, float, int]:
    """Frames, aspect, and where the arrays begin."""
    length = int.from_bytes(data[8:12], "little")
    if data[:8] != MAGIC or length > MAX_HEADER_BYTES:
        raise _broken("it does not begin like one")
    try:
        header = json.loads(data[12 : 12 + length])
        frames, aspect = header["frames"], float(header["aspect"])
    except (ValueError, KeyError, TypeError) as error:
        raise _broken("its header cannot be read") from error
    if type(frames) is not int or not 1 <= frames <= MAX_FRAMES or not 0.01 <= aspect <= 100:
        raise _broken(f"it should have from 1 to {MAX_FRAMES} frames of a usual shape")
    return frames, aspect, 12 + length


def _check(recording: Recording) -> None:
    for array in (recording.times, recording.points, recording.world):
        if not (np.abs(array) <= LARGEST).all():  # also false for what is no number
            raise _broken("it holds values that cannot be coordinates or times")
    if (np.diff(recording.times) <= 0).any():
        raise _broken("its times should rise")
    if recording.visibility.min() < 0 or recording.visibility.max() > 1:
        raise _broken("visibility should be from 0 to 1")


def _broken(why: str) -> BadRequest:
    return BadRequest(f"This is not a recorded movement: {why}. Send a video, or landmarks that this service made.")
