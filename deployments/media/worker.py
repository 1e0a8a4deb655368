"""Decodes one file, or encodes one stream of sound, in a process of its own that is gone afterwards.

Run as `python -I worker.py REQUEST`, where REQUEST is JSON. The file is descriptor 0, never a path; the answer goes to
descriptor 1. Whatever a hostile file makes of the decoder, this process can open nothing: no file, no socket, no
process (`confine`). It imports nothing of ours, so that it starts in less than a tenth of a second.

A decoder answers with messages of one byte and a length, `<cI`:
- `A`: float32 samples, mono, at the rate that was asked for
- `V`: a picture: width, height, bytes per row, mirrored, quarter turns clockwise, seconds (`<HHIBBd`), then RGB rows
- `E`: the name of what is wrong, one of the keys of `decoding.PROBLEMS`
- `.`: the end, without which an answer is not whole
An encoder reads float32 samples from descriptor 0 and answers with the bytes of the file; its exit status is 0 only
if it got to the end.
"""

import json
import math
import os
import resource
import struct
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import av
import av.error
import av.logging
import av.subtitles.stream  # PyAV imports it when it needs it, and then it is too late
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

HEAD = struct.Struct("<cI")
PICTURE = struct.Struct("<HHIBBd")
SOUND_BLOCK = 64 * 1024  # bytes that are gathered before they are sent
OUT_BLOCK = 2048

CONTAINERS = {  # what each request may open
    "sound": frozenset({"wav", "flac", "mp3", "aac", "ogg", "matroska", "mov"}),
    "frames": frozenset({"matroska", "mov"}),
    "image": frozenset({"png_pipe", "jpeg_pipe", "webp_pipe", "gif"}),
}
CODECS = {  # decoders that are in daily use everywhere, and no others
    "sound": frozenset(
        {"aac", "flac", "mp3", "mp3float", "opus", "vorbis", "pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le"}
        | {"pcm_f32le", "pcm_f64le", "pcm_s16be", "pcm_s24be", "pcm_alaw", "pcm_mulaw"}
    ),
    "frames": frozenset({"h264", "hevc", "vp8", "vp9", "libdav1d"}),
    "image": frozenset({"png", "mjpeg", "webp", "gif"}),
}
ENCODERS = {  # by format: muxer, encoder, bits per second, the rates that the encoder takes, all of them if empty
    "mp3": ("mp3", "libmp3lame", 64_000, (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
    "opus": ("ogg", "libopus", 32_000, (16_000, 24_000, 48_000)),
    "aac": ("adts", "aac", 64_000, (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
    "flac": ("flac", "flac", 0, ()),
}
TOO_MANY_PIXELS = ("max pixel count", "image size", "Picture size")  # FFmpeg's words
MOST_CHANNELS = 16
QUIET_ENOUGH = {"rematrix_maxval": "1.0"}  # six loud channels in one are no louder than one
BAD_FRAMES = 20  # so many damaged frames in a row are no scratch any more


class Problem(Exception):
    """Something is wrong with the file; the text is one of the keys of `decoding.PROBLEMS`."""


def main(request: dict[str, Any]) -> None:
    av.logging.set_level(av.logging.ERROR)  # kept in its errors, written nowhere
    setattr(Type, "_missing_", classmethod(lambda cls, _: cls.VIDEO_HINT))  # noqa: B010 - PyAV cannot name what EXIF is
    confine(request)
    if request["do"] == "encode":
        encode(request)
        return
    try:
        decode(request)
    except Problem as problem:
        send(b"E", str(problem).encode())
    except (MemoryError, av.error.MemoryError):
        send(b"E", b"memory")
    except (av.error.FFmpegError, ValueError, OverflowError):
        send(b"E", b"damaged")
    else:
        send(b".")


def confine(request: dict[str, Any]) -> None:
    """Bound this process for good. New descriptors are refused, and with them files, sockets and pipes."""
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 1))  # SIGXCPU says why it ended
    for what, most in (
        (resource.RLIMIT_AS, request["memory_mb"] << 20),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(what, (most, most))


def decode(request: dict[str, Any]) -> None:
    do = request["do"]
    source = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - lives as long as the process
    container = av.open(source, format=container_of(source, do), options=probing(do, request["pixels"]))
    if do == "sound":
        sound(container, request)
    else:
        pictures(container, request)


def container_of(source: Any, do: str) -> str:
    """What the file is by its first bytes, whatever it is called. Lists of addresses are in no row of this table."""
    head = source.read(16)
    source.seek(0)
    if not head:
        raise Problem("empty")
    found = sniffed(head)
    if found in CONTAINERS[do]:
        return found
    raise Problem("picture" if found in CONTAINERS["image"] else "heic" if found == "heic" else "format")


def sniffed(head: bytes) -> str:
    beginnings = {
        b"fLaC": "flac",
        b"ID3": "mp3",
        b"OggS": "ogg",
        b"\x1aE\xdf\xa3": "matroska",
        b"\x89PNG\r\n\x1a\n": "png_pipe",
        b"\xff\xd8\xff": "jpeg_pipe",
        b"GIF8": "gif",
    }
    for beginning, name in beginnings.items():
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"WEBP": "webp_pipe"}.get(head[8:12], "")
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"avis", b"msf1"):
        return "heic"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        return "mov"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3" if head[1] & 0x06 else "aac"
    return ""


def probing(do: str, pixels: int) -> dict[str, str]:
    """Bounds that also hold while FFmpeg finds out what is in the file."""
    codecs = CODECS["sound"] | CODECS["frames"] if do != "image" else CODECS["image"]
    return {
        "codec_whitelist": ",".join(sorted(codecs)),
        "protocol_whitelist": "file",
        "max_pixels": str(pixels),
        "threads": "1",
        "max_streams": "64",
    }


def opened(stream: Any, do: str, pixels: int) -> Any:
    codec = stream.codec_context
    if codec is None or codec.codec.name not in CODECS[do]:
        raise Problem("codec")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(pixels)}
    return stream


def of_unknown_length(container: Any) -> bool:
    """A WAV file that was sent while it was made has no sizes in its header, so its end always looks too early."""
    return container.format.name == "wav" and os.pread(0, 4, 4) in (b"\xff\xff\xff\xff", bytes(4))


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of the stream. A scratch is passed over; more than that, or a file cut off, is an error."""
    bad = 0
    for packet in container.demux(stream):
        if packet.is_corrupt and not of_unknown_length(container):
            raise Problem("damaged")
        try:
            frames = packet.decode()
            bad = 0
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if any(words in str(error.log) for words in TOO_MANY_PIXELS):
                raise Problem("pixels") from error
            frames, bad = [], bad + 1
        if bad > BAD_FRAMES:
            raise Problem("damaged")
        yield from frames


def sound(container: Any, request: dict[str, Any]) -> None:
    if not container.streams.audio:
        raise Problem("silent")
    stream = opened(container.streams.audio[0], "sound", request["pixels"])
    most = math.ceil(request["seconds"] * request["rate"]) * 4
    block, sent = bytearray(), 0
    for piece in resampled(decoded(container, stream), request["rate"]):
        block += piece
        if sent + len(block) > most:
            raise Problem("seconds")
        if len(block) >= SOUND_BLOCK:
            send(b"A", block)
            sent += len(block)
            block.clear()
    if not sent and not block:
        raise Problem("silent" if container.streams.video else "damaged")
    send(b"A", block)


def resampled(frames: Iterator[Any], rate: int) -> Iterator[memoryview]:
    """Mono float32 samples. A stream may change its rate or its channels on the way."""
    resampler, shape = None, None
    for frame in frames:
        if frame.layout.nb_channels > MOST_CHANNELS:
            raise Problem("channels")
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if now != shape:
            if resampler:
                yield from pieces(resampler.resample(None))
            resampler, shape = av.AudioResampler("flt", "mono", rate, options=QUIET_ENOUGH), now
        frame.pts = None  # gaps are closed rather than filled
        assert resampler
        yield from pieces(resampler.resample(frame))
    if resampler:
        yield from pieces(resampler.resample(None))


def pieces(frames: list[Any]) -> Iterator[memoryview]:
    for frame in frames:
        yield memoryview(frame.planes[0])[: frame.samples * 4]


def pictures(container: Any, request: dict[str, Any]) -> None:
    """Every frame, or as many per second as were asked for. Those that are left out are counted, too."""
    do, first = request["do"], None
    stream = opened(shown(container), do, request["pixels"])
    camera = Camera(stream, request)
    for number, frame in enumerate(decoded(container, stream)):
        first = first or frame
        if number >= request["frames"]:
            raise Problem("frames")
        if (frame.width, frame.height) != (first.width, first.height):
            raise Problem("changes")
        camera.take(frame)
        if do == "image":
            break
    if first is None:
        raise Problem("damaged")


def shown(container: Any) -> Any:
    """The video itself, not the cover of an album."""
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            return stream
    raise Problem("dark")


class Camera:
    """Turns frames into RGB of at most `side_px`, and knows when each was taken."""

    def __init__(self, stream: Any, request: dict[str, Any]) -> None:
        self.request = request
        self.rate = float(stream.average_rate or stream.guessed_rate or 25)
        self.reformatter = VideoReformatter()
        self.start: float | None = None
        self.now = -1 / self.rate
        self.due = 0.0

    def take(self, frame: Any) -> None:
        self.now = self.time_of(frame)
        if self.now > self.request["seconds"]:
            raise Problem("seconds")
        if self.now < self.due - 0.5 / max(self.rate, self.request["fps"]):
            return
        self.due = max(self.due + 1 / self.request["fps"], self.now)
        width, height = self.size(frame)
        rgb = self.reformatter.reformat(frame, width, height, "rgb24", threads=1)
        plane = rgb.planes[0]
        mirrored, turns = turned(frame)
        head = PICTURE.pack(width, height, plane.line_size, mirrored, turns, self.now)
        send(b"V", head, memoryview(plane)[: plane.line_size * height])

    def time_of(self, frame: Any) -> float:
        """Seconds since the first frame; where the file says nothing believable, by the frame rate."""
        after = self.now + 1 / self.rate
        if frame.time is None:
            return after
        if self.start is None:
            self.start = frame.time
        return frame.time - self.start if frame.time - self.start >= self.now else after

    def size(self, frame: Any) -> tuple[int, int]:
        """As it is to be shown: pixels need not be square."""
        aspect = float(frame.sample_aspect_ratio or 1) if hasattr(frame, "sample_aspect_ratio") else 1.0
        width, height = frame.width * (aspect if 0.1 < aspect < 10 else 1.0), float(frame.height)
        scale = min(1.0, self.request["side_px"] / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def turned(frame: Any) -> tuple[bool, int]:
    """Whether to mirror a frame left to right, and how many quarter turns clockwise to give it then.

    The display matrix maps (1, 0) to (a, b) and (0, 1) to (c, d), with y pointing down; a negative determinant mirrors.
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None or matrix.buffer_size < 36:
        return False, 0
    a, b, _, c, d = struct.unpack_from("<5i", bytes(matrix))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return mirrored, round(math.atan2(b, a) / (math.pi / 2)) % 4


def encode(request: dict[str, Any]) -> None:
    muxer, encoder, bits, rates = ENCODERS[request["format"]]
    rate = next((rate for rate in rates if rate >= request["rate"]), rates[-1] if rates else request["rate"])
    pages = {"page_duration": "200000"} if muxer == "ogg" else {}  # microseconds, instead of a second
    out = Out()
    container = av.open(out, "w", format=muxer, options={"flush_packets": "1", **pages}, buffer_size=4096)
    stream: Any = container.add_stream(encoder, rate=rate, layout="mono")
    if bits:
        stream.bit_rate = bits
    with open(0, "rb", buffering=0, closefd=False) as source:
        for samples in whole_samples(source):
            frame = av.AudioFrame("flt", "mono", len(samples) // 4)
            frame.sample_rate = request["rate"]
            frame.planes[0].update(samples)
            container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    container.close()
    out.flush()


def whole_samples(source: Any) -> Iterator[bytes]:
    rest = b""
    while block := source.read(SOUND_BLOCK):
        block = rest + block
        whole = len(block) & ~3
        rest = block[whole:]
        if whole:
            yield block[:whole]


class Out:
    """A file that can only be written, so that nothing is corrected afterwards; a quarter of a second at once."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, data: Any) -> int:
        self.waiting += data
        if len(self.waiting) >= OUT_BLOCK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        write_all(self.waiting)
        self.waiting = bytearray()


def send(kind: bytes, *parts: Any) -> None:
    write_all(HEAD.pack(kind, sum(len(part) for part in parts)))
    for part in parts:
        write_all(part)


def write_all(data: Any) -> None:
    with memoryview(data) as view:
        sent = 0
        while sent < len(view):
            sent += os.write(1, view[sent:])


def end() -> NoReturn:
    """Without tearing anything down: a decoder that was fed rubbish need not survive its own end."""
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    end()
