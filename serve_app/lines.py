"""The short way between two processes of one node: batches over a socket, while Serve keeps the places.

A call over a Serve handle costs milliseconds of CPU, and every chunk that crosses it some more. So a call is made to
*lease* a line, and while the lease lasts jobs go over the replica's own socket, one at a time. To Serve a lease is a
request like any other: placed, counted for scaling and back-pressure, waited for in a drain. Leases are short, so that
what Serve sees stays true: an idle one is given back soon, and none is kept for long without asking anew.

The socket has an abstract name: it is on no network and in no folder, and it goes with its process. Each side checks
that the other belongs to the same user, and the caller shows its lease's token, before anything is unpickled. A caller
on another node, or one that cannot reach the socket, gets its batches over the handle as ever.
"""

import asyncio
import os
import pickle
import secrets
import socket
import struct
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from serve_app.errors import MegaCityError
from serve_app.types import Done, Event, Job

Batch = list[Event | MegaCityError]

IDLE_S = 0.5
OLDEST_S = 5.0
CONNECT_S = 5.0
AHEAD = 64  # frames that may lie unread before the sender is slowed down
SIZE = struct.Struct("!I")
PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


@dataclass(frozen=True, slots=True)
class Lease:
    """Where a line can be had, and the word that opens it."""

    address: str
    token: bytes


@dataclass(frozen=True, slots=True)
class FilesWanted:
    """What a caller on another node is told whose job has files: to send them along."""


class Wire(asyncio.Protocol):
    """Length-prefixed frames between two processes of one user."""

    def __init__(self, opened: Callable[["Wire"], None] = lambda _: None) -> None:
        self._opened = opened
        self._buffer = bytearray()
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self.lost: Callable[[], object] = lambda: None
        self.open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.open = _user_of(transport.get_extra_info("socket")) == os.getuid()
        if self.open:
            self._opened(self)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= SIZE.size and len(buffer) >= (end := SIZE.size + SIZE.unpack_from(buffer)[0]):
            self._arrived.put_nowait(bytes(buffer[SIZE.size : end]))
            del buffer[:end]
        if self._arrived.qsize() > AHEAD:
            self._transport.pause_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self.open = False
        self._arrived.put_nowait(None)
        self._room.set()
        self.lost()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def send(self, frame: bytes) -> None:
        self._transport.write(SIZE.pack(len(frame)) + frame)
        await self._room.wait()

    async def receive(self) -> bytes:
        """The next frame; raises `ConnectionResetError` when there will be none."""
        frame = await self._arrived.get()
        if frame is None:
            raise ConnectionResetError("the other side of a line is gone")
        if self.open:
            self._transport.resume_reading()
        return frame

    def close(self) -> None:
        self._transport.abort()


class Listener:
    """The engine's side: gives leases, and answers the jobs that come over their lines."""

    def __init__(self, run: Callable[[Job], AsyncGenerator[Batch]]) -> None:
        self._run = run
        self._address = f"\0megacity-{secrets.token_hex(16)}"
        self._leases: dict[bytes, asyncio.Future[Wire]] = {}
        self._arrivals: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self._address)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: Wire(self._arrived), sock=listener, backlog=1024
        )

    def close(self) -> None:
        self._server.close()

    async def lease(self) -> AsyncGenerator[Lease]:
        """One lease, which ends with its line; closing this generator closes the line."""
        token = secrets.token_bytes(32)
        taken = self._leases[token] = asyncio.get_running_loop().create_future()
        try:
            yield Lease(self._address, token)
            async with asyncio.timeout(CONNECT_S):
                wire = await taken
            await self._serve(wire)
        except TimeoutError:
            return  # whoever asked for it is gone
        finally:
            del self._leases[token]

    def _arrived(self, wire: Wire) -> None:
        task = asyncio.create_task(self._admit(wire))
        self._arrivals.add(task)
        task.add_done_callback(self._arrivals.discard)

    async def _admit(self, wire: Wire) -> None:
        with suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(CONNECT_S):
                taken = self._leases.get(await wire.receive())
            if taken and not taken.done():
                taken.set_result(wire)
                return
        wire.close()

    async def _serve(self, wire: Wire) -> None:
        """Answer what comes over the wire until it is lost, which cancels the job that is running."""
        answers = asyncio.create_task(self._answer(wire))
        wire.lost = answers.cancel
        try:
            await asyncio.wait([answers])
        finally:
            wire.close()
            answers.cancel()
            await asyncio.wait([answers])

    async def _answer(self, wire: Wire) -> None:
        with suppress(ConnectionResetError):
            while True:
                job: Job = pickle.loads(await wire.receive())
                async with aclosing(self._run(job)) as batches:
                    async for batch in batches:
                        await wire.send(pickle.dumps(batch))


@dataclass(eq=False, slots=True)
class _Line:
    wire: Wire
    lease: Any
    until: float
    idle: asyncio.TimerHandle | None = None

    def close(self) -> None:
        self.wire.close()
        self.lease.cancel()


class Lines:
    """The caller's side: a job at a time on each line, and a new lease when no line is free.

    `call(job, node)` is a Serve call that streams a `Lease` to callers on its own node, and to others the batches, or
    that `FilesWanted`; `send` then takes the job there with its files.
    """

    def __init__(
        self,
        call: Callable[[Job, str], Any],
        node: str,
        send: Callable[[Job], AsyncGenerator[Batch]],
    ) -> None:
        self._call = call
        self._node = node
        self._send = send
        self._idle: list[_Line] = []

    async def run(self, job: Job) -> AsyncGenerator[Batch]:
        """A job's batches. Raises `OSError` if the engine's process is lost, and what Serve's calls raise.

        A lease outlives the request that it was asked for, so it is asked for outside of that request's context: Serve
        cancels what a request has called when the request itself is over.
        """
        line, way = self._free(), None
        if not line:
            answers = Context().run(self._call, job, self._node)
            try:
                async for answer in answers:
                    if isinstance(answer, Lease):
                        line = await _opened(answer, answers)
                        break
                    if isinstance(answer, FilesWanted):
                        way = self._send(job)
                        break
                    yield answer
            finally:
                if not line:
                    answers.cancel()
        if line:
            way = self._over(line, job)
        if way:
            async with aclosing(way) as batches:
                async for batch in batches:
                    yield batch

    async def _over(self, line: _Line, job: Job) -> AsyncGenerator[Batch]:
        ended = False
        try:
            await line.wire.send(pickle.dumps(job))
            while not ended:
                batch: Batch = pickle.loads(await line.wire.receive())
                if ended := isinstance(batch[-1], Done | MegaCityError):
                    self._keep(line)
                yield batch
        finally:
            if not ended:
                line.close()

    def _free(self) -> _Line | None:
        while self._idle:
            line = self._idle.pop()
            if line.idle:
                line.idle.cancel()
            if line.wire.open and time.monotonic() < line.until:
                return line
            line.close()
        return None

    def _keep(self, line: _Line) -> None:
        line.idle = asyncio.get_running_loop().call_later(IDLE_S, self._give_back, line)
        self._idle.append(line)

    def _give_back(self, line: _Line) -> None:
        self._idle.remove(line)
        line.close()


async def _opened(lease: Lease, held_by: Any) -> _Line:
    until = time.monotonic() + OLDEST_S
    there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        there.setblocking(False)
        there.connect(lease.address)  # of a local socket: at once, or not at all
    except OSError:
        there.close()
        raise
    _, wire = await asyncio.get_running_loop().create_unix_connection(Wire, sock=there)
    if not wire.open:
        raise ConnectionRefusedError("a line leads to another user's process")
    await wire.send(lease.token)
    return _Line(wire, held_by, until)


def _user_of(there: Any) -> int:
    """The user of the process at the other end, as the kernel knows it."""
    return int(PEER.unpack(there.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[1])
