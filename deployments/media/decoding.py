"""Sound and pictures out of files that callers sent."""

import os
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from signal import SIGKILL, SIGXCPU
from types import MappingProxyType
from typing import TYPE_CHECKING

from deployments.media.child import Child, Died
from serve_app.errors import BadRequest, EngineFailed, MegaCityError, TooLarge, WrongMedia
from serve_app.types import Media

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Picture = NDArray[np.uint8]

RATE = 16_000
BLOCK_S = 30
PICTURE = struct.Struct("<HHIBBd")  # as in worker.py


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may make us do. They are counted while it is decoded; what its headers say is not believed.

    `fps` is the most frames per second that are handed on; those between are decoded and left out. `side_px` is the
    longer side of a picture that is handed on, `pixels` the most of one that is decoded.
    """

    seconds: float = 600.0
    frames: int = 36_000
    pixels: int = 40_000_000
    side_px: int = 1280
    fps: float = 60.0
    cpu_s: int = 120
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of a video: RGB, height × width × 3, upright, `time_s` seconds after the first one."""

    rgb: "Picture"
    time_s: float


USUAL = Limits()
TAKEN = {
    "sound": "a WAV, MP3, M4A, FLAC, Ogg or WebM file",
    "frames": "an MP4, MOV, WebM or MKV video",
    "image": "a JPEG, PNG, WebP or GIF picture",
}
CODECS = {
    "sound": "PCM, MP3, AAC, Opus, Vorbis or FLAC",
    "frames": "H.264, H.265, VP8, VP9 or AV1",
    "image": "JPEG, PNG, WebP or GIF",
}
PROBLEMS: Mapping[str, tuple[type[MegaCityError], str]] = MappingProxyType(
    {
        "empty": (BadRequest, "The file is empty. Send {taken}."),
        "format": (WrongMedia, "This kind of file is not taken here. Send {taken}."),
        "picture": (WrongMedia, "The file is a picture, whatever it is called. Send {taken}."),
        "heic": (WrongMedia, "HEIC and AVIF pictures are not taken. Send {taken}."),
        "codec": (WrongMedia, "What is in the file is coded in a way that is not taken here. Use {codecs}."),
        "silent": (BadRequest, "There is no sound in the file. Send {taken} with a sound track."),
        "dark": (BadRequest, "There is no moving picture in the file. Send {taken}."),
        "damaged": (BadRequest, "The file is damaged or cut off. Send it again, or {taken}."),
        "changes": (BadRequest, "The size of the picture changes in the middle of the video. Send one of one size."),
        "channels": (BadRequest, "The sound has more than 16 channels. Send mono or stereo."),
        "seconds": (
            TooLarge,
            "The file is longer than the {limits.seconds:g} seconds taken here. Send a part of it.",
        ),
        "frames": (TooLarge, "The video has more than the {limits.frames} frames taken here. Send a part of it."),
        "pixels": (TooLarge, "A picture may have at most {limits.pixels} pixels. Send a smaller one."),
        "memory": (TooLarge, "The file takes more memory to decode than there is for one. Send a smaller one."),
        "time": (TooLarge, "The file takes too long to decode. Send a shorter or smaller one."),
    }
)


async def pcm(media: Media, limits: Limits = USUAL, rate: int = RATE) -> "Samples":
    """All sound of a file as float32, mono, `rate` samples per second, between -1 and 1.

    Raises `BadRequest`, `WrongMedia` or `TooLarge`, as everything here does.
    """
    import numpy as np

    whole = bytearray()
    async with aclosing(_sound(media, limits, rate)) as blocks:
        async for block in blocks:
            whole += block
    return np.frombuffer(whole, np.float32)


async def pcm_blocks(media: Media, limits: Limits = USUAL, rate: int = RATE) -> AsyncGenerator["Samples"]:
    """The same in blocks of 30 seconds, the last one shorter, so that an hour needs no more memory than a minute."""
    import numpy as np

    size = BLOCK_S * rate * 4
    block = bytearray()
    async with aclosing(_sound(media, limits, rate)) as pieces:
        async for piece in pieces:
            block += piece
            while len(block) >= size:
                yield np.frombuffer(bytes(block[:size]), np.float32)
                del block[:size]
    if block:
        yield np.frombuffer(block, np.float32)


async def frames(media: Media, limits: Limits = USUAL, max_fps: float | None = None) -> AsyncGenerator[Frame]:
    """The frames of a video, upright and not larger than `limits.side_px`, at most `max_fps` of each second."""
    fps = min(max_fps or limits.fps, limits.fps)
    async with aclosing(_messages("frames", media, limits, {"fps": fps})) as messages:
        async for message in messages:
            yield _frame(message, limits)


async def image(media: Media, limits: Limits = USUAL) -> "Picture":
    """A picture as RGB, height × width × 3, upright and not larger than `limits.side_px`."""
    async with aclosing(_messages("image", media, limits, {"fps": limits.fps})) as messages:
        found = [_frame(message, limits).rgb async for message in messages]
    return found[0]


async def _sound(media: Media, limits: Limits, rate: int) -> AsyncGenerator[bytearray]:
    async with aclosing(_messages("sound", media, limits, {"rate": rate})) as messages:
        async for message in messages:
            yield message


async def _messages(do: str, media: Media, limits: Limits, more: Mapping[str, float]) -> AsyncGenerator[bytearray]:
    source = _open(media)
    try:
        async with Child({**asdict(limits), **more, "do": do}, source) as child:
            while True:
                kind, content = await child.message()
                if kind == b".":
                    return
                if kind == b"E":
                    raise _problem(content.decode("ascii", "replace"), do, limits)
                yield content
    except Died as death:
        raise _problem(_cause(death.status), do, limits) from None
    finally:
        os.close(source)


def _open(media: Media) -> int:
    try:
        return os.open(media.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise EngineFailed("The file that came with the request is gone. Please send it again.") from None


def _cause(status: int) -> str:
    """Why a worker died: the kernel ends one whose time is up, and one that asks for too much often just breaks."""
    if status == -SIGXCPU:
        return "time"
    return "memory" if status == -SIGKILL else "damaged"


def _problem(name: str, do: str, limits: Limits) -> MegaCityError:
    kind, message = PROBLEMS.get(name, PROBLEMS["damaged"])
    return kind(message.format(taken=TAKEN[do], codecs=CODECS[do], limits=limits), code=f"media_{name}")


def _frame(message: bytearray, limits: Limits) -> Frame:
    """A picture message as a frame. The worker that sent it has read a hostile file, so its numbers are checked."""
    import numpy as np

    width, height, row, mirrored, turns, time_s = PICTURE.unpack_from(message)
    if not (0 < width <= limits.side_px and 0 < height <= limits.side_px and row >= 3 * width):
        raise EngineFailed("The decoder broke. Please send the file again, or another one.")
    rows = np.frombuffer(message, np.uint8, row * height, PICTURE.size).reshape(height, row)
    rgb = rows[:, : 3 * width].reshape(height, width, 3)
    upright = np.rot90(rgb[:, ::-1] if mirrored else rgb, -turns)
    return Frame(np.ascontiguousarray(upright), time_s)
