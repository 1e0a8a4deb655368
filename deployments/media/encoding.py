"""Sound into the formats that callers ask for."""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from deployments.media.child import Child
from deployments.media.decoding import Limits
from serve_app.errors import EngineFailed

if TYPE_CHECKING:
    from deployments.media.decoding import Samples

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "wav": "audio/wav",
        "pcm": "audio/pcm",
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
    }
)
UNKNOWN = 0xFFFFFFFF  # how long the rest of a RIFF file is while nobody knows
PIECE = 64 * 1024
BOUNDS = Limits(cpu_s=300)


async def encode(pcm: "Samples", rate: int, format: str) -> bytes:
    """Mono samples between -1 and 1 as a file of one of `MEDIA_TYPES`."""

    async def once() -> AsyncIterator["Samples"]:
        yield pcm

    async with aclosing(encoded(once(), rate, format)) as pieces:
        whole = b"".join([piece async for piece in pieces])
    return sized(whole) if format == "wav" else whole


async def encoded(blocks: AsyncIterable["Samples"], rate: int, format: str) -> AsyncGenerator[bytes]:
    """The same piece by piece, while the blocks come. A WAV file's header then says that its length is not known."""
    if format in ("wav", "pcm"):
        if format == "wav":
            yield header(rate)
        async for block in blocks:
            yield _int16(block)
        return
    async with Child({**asdict(BOUNDS), "do": "encode", "format": format, "rate": rate}) as child:
        writer = asyncio.create_task(_write(child, blocks))
        try:
            while piece := await child.piece(PIECE):
                yield piece
            if await child.status():
                raise EngineFailed("The sound could not be encoded. Please try again, or ask for another format.")
            await writer
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await writer


def header(rate: int, size: int | None = None) -> bytes:
    """The 44 bytes before `size` bytes of 16 bit mono samples in a WAV file."""
    whole, data = (UNKNOWN, UNKNOWN) if size is None else (36 + size, size)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", whole, b"WAVE") + form + struct.pack("<4sI", b"data", data)


def sized(wav: bytes) -> bytes:
    """A WAV file of ours, now that its length is known."""
    (rate,) = struct.unpack_from("<I", wav, 24)
    return header(rate, len(wav) - 44) + wav[44:]


async def _write(child: Child, blocks: AsyncIterable["Samples"]) -> None:
    import socket

    loop = asyncio.get_running_loop()
    async for block in blocks:
        await loop.sock_sendall(child.socket, block.astype("<f4").tobytes())
    child.socket.shutdown(socket.SHUT_WR)


def _int16(block: "Samples") -> bytes:
    import numpy as np

    return (np.clip(block, -1, 1) * 32767).round().astype("<i2").tobytes()
