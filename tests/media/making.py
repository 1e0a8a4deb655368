"""Files to decode: good ones, and those that somebody would send to do harm."""

import math
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TONE_HZ = 440


def tone(seconds: float, rate: int = 16_000, level: float = 0.5) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * TONE_HZ * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def sound(
    path: Path, codec: str, format: str, seconds: float = 2.0, rate: int = 48_000, layout: str = "stereo"
) -> Path:
    """A tone in all channels."""
    with av.open(str(path), "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        channels = stream.layout.nb_channels
        for start in range(0, int(seconds * rate), 9600):
            count = min(9600, int(seconds * rate) - start)
            wave = 0.5 * np.sin(2 * np.pi * TONE_HZ * (start + np.arange(count)) / rate)
            frame = av.AudioFrame.from_ndarray(
                np.repeat(wave.astype(np.float32), channels)[None], format="flt", layout=layout
            )
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def silence(path: Path, seconds: float) -> Path:
    """Hours of nothing in a FLAC file of some hundred kilobytes."""
    rate = 8_000
    with av.open(str(path), "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=rate, layout="mono")
        frame = av.AudioFrame("s16", "mono", rate * 60)
        frame.planes[0].update(b"\0" * (rate * 60 * 2))
        frame.sample_rate = rate
        for minute in range(int(seconds / 60)):
            frame.pts = minute * rate * 60
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pictures(count: int, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Grey, with the upper left quarter red, and a number that can be read back: the grey is 2 × the number."""
    for number in range(count):
        picture = np.full((height, width, 3), 60 + 2 * (number % 60), np.uint8)
        picture[: height // 4, : width // 4] = (220, 20, 20)
        yield picture


def video(
    path: Path,
    count: int = 30,
    size: tuple[int, int] = (160, 96),
    fps: int = 30,
    codec: str = "libx264",
    format: str = "mp4",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
) -> Path:
    """`times` are in milliseconds, where frames don't come evenly."""
    with av.open(str(path), "w", format=format, options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures(count, *size)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turned(path: Path, degrees: float, mirrored: bool = False) -> Path:
    """Give an MP4 the display matrix of a camera that was held that way: turned clockwise, mirrored before."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 36
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    flip = -1 if mirrored else 1
    matrix = [flip * cos, flip * sin, 0, -sin, cos, 0, 0, 0]
    data[at : at + 32] = struct.pack(">8i", *(round(value * 65536) for value in matrix))
    path.write_bytes(data)
    return path


def bomb(path: Path, width: int = 30_000, height: int = 30_000) -> Path:
    """A PNG of some megabytes that is one of gigabytes when it is unpacked."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(1)
    row = bytes(width * 3 + 1)
    data = b"".join(packer.compress(row) for _ in range(min(height, 2000))) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def picture(path: Path, codec: str = "png", format: str = "image2", size: tuple[int, int] = (80, 40)) -> Path:
    pix_fmt = {"png": "rgb24", "mjpeg": "yuvj444p", "libwebp": "yuv420p", "gif": "rgb8"}[codec]
    with av.open(str(path), "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=1)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        container.mux(stream.encode(av.VideoFrame.from_ndarray(next(pictures(1, *size)), "rgb24")))
        container.mux(stream.encode(None))
    return path


def oriented(path: Path, orientation: int) -> Path:
    """Give a JPEG the EXIF orientation of a camera."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    return path
