"""Our side of a worker process: start it, talk with it, and make sure that it is gone."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WORKER = Path(__file__).with_name("worker.py")
HEAD = struct.Struct("<cI")
LARGEST_MESSAGE = 256 << 20
SOCKET_BUFFER = 1 << 20


class Died(Exception):
    """The worker ended before its answer did. `status` is its exit status, negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Child:
    """One worker, from `async with` to its end; leaving kills it, whatever it is doing.

    It gets `source`, or else its side of the socket, as descriptor 0, and nothing of our environment.
    """

    def __init__(self, request: Mapping[str, Any], source: int | None = None, worker: Path = WORKER) -> None:
        self._command = [sys.executable, "-I", str(worker), json.dumps(request)]
        self._source = source

    async def __aenter__(self) -> Self:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.socket.setblocking(False)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            stdin = theirs.fileno() if self._source is None else self._source
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes two milliseconds, a thread would not be faster
                self._command,
                stdin=stdin,
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.socket.close()
        self._process.kill()
        self._process.wait()

    async def message(self) -> tuple[bytes, bytearray]:
        """The next message: its kind and its content. Raises `Died` if there is none."""
        kind, size = HEAD.unpack(await self._exactly(HEAD.size))
        if size > LARGEST_MESSAGE:
            raise Died(0)
        return kind, await self._exactly(size)

    async def _exactly(self, size: int) -> bytearray:
        content = bytearray(size)
        view, got = memoryview(content), 0
        loop = asyncio.get_running_loop()
        while got < size:
            with suppress(ConnectionError):
                if more := await loop.sock_recv_into(self.socket, view[got:]):
                    got += more
                    continue
            raise Died(await self.status())
        return content

    async def send(self, data: bytes) -> None:
        """Raises `Died` if nobody reads it any more."""
        try:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
        except ConnectionError:
            raise Died(await self.status()) from None

    async def piece(self, most: int) -> bytes:
        """Whatever comes next, up to `most` bytes; nothing once the worker has ended, well or not."""
        with suppress(ConnectionError):
            return await asyncio.get_running_loop().sock_recv(self.socket, most)
        return b""

    async def status(self) -> int:
        """The exit status of a worker that has closed its side."""
        return await asyncio.to_thread(self._process.wait)
