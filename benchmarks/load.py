"""A load generator that is light enough not to be what is measured: one process, plain sockets, minimal parsing.

It runs as a child (`python -m benchmarks.load FILE`) that takes one order per line on stdin and leaves what it found in
the file, so that its own start, and its CPU, stay out of every measurement. `Load` is the side that gives the orders:

    with Load() as load:
        found = load.closed(Ask(port, path, body), connections=10, seconds=3)

A closed loop asks again as soon as it is answered; an open loop asks at its own rate, whatever happens to the answers.
"""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import uvloop

PATIENCE_S = 60.0
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to 127.0.0.1. `mark` names its class in the results, `share` is its part of an open loop's load."""

    port: int
    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    mark: str = "all"
    share: float = 1.0

    def bytes(self) -> bytes:
        body = json.dumps(self.body, ensure_ascii=False).encode()
        headers = {"host": f"127.0.0.1:{self.port}", "content-type": "application/json", **self.headers}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Answer:
    """When it was asked for (seconds from the start), how long it took and what it was; status 0: it never came."""

    at: float
    seconds: float
    first_s: float
    status: int
    events: int
    size: int
    mark: str
    retry_after: bool


@dataclass(frozen=True, slots=True)
class Found:
    """`elapsed_s` ends with the last answer; `busy_s` is CPU time of the generator itself."""

    elapsed_s: float
    busy_s: float
    answers: list[Answer]

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 200]

    @property
    def rate(self) -> float:
        return len(self.good) / self.elapsed_s


class Load:
    """The generator's process, to be given orders."""

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory(prefix="load-")
        command = [sys.executable, "-m", "benchmarks.load", f"{self.folder.name}/found.json"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self.folder.cleanup()

    def closed(self, ask: Ask | Sequence[Ask], connections: int, seconds: float) -> Found:
        """Keep `connections` requests in flight for `seconds`, several kinds in turn, then wait for the last ones."""
        asks = [asdict(each) for each in ([ask] if isinstance(ask, Ask) else ask)]
        return self._order(way="closed", asks=asks, connections=connections, seconds=seconds)

    def open(self, asks: list[Ask], per_second: float, seconds: float) -> Found:
        """Ask at random times, `per_second` on average, each request on a connection that is free or new."""
        return self._order(way="open", asks=[asdict(ask) for ask in asks], per_second=per_second, seconds=seconds)

    def _order(self, **order: Any) -> Found:
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(order), file=self.process.stdin, flush=True)
        if not self.process.stdout.readline():
            raise RuntimeError("the load generator broke")
        found = json.loads(Path(self.folder.name, "found.json").read_text())
        return Found(found["elapsed_s"], found["busy_s"], [Answer(*row) for row in found["answers"]])


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request on it. `ended` is called with each answer, and with none."""

    def __init__(self, started: float, ended: Callable[["_Connection", Answer], None]) -> None:
        self.started = started
        self.ended = ended
        self.transport: Any = None
        self.asked = 0.0
        self.mark = ""
        self._reset()

    def _reset(self) -> None:
        self.head = b""
        self.status = self.events = self.size = 0
        self.length: int | None = None
        self.first = 0.0
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes, mark: str, at: float) -> None:
        """Send a request that was due `at`, which may be before now if a connection had to be made for it."""
        self._reset()
        self.mark, self.asked = mark, at
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self.status:
            data = self._headed(data)
        if data:
            self.first = self.first or time.perf_counter()
            self.size += len(data)
            self.events += data.count(b"data: ")
            self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
        if self.status and self._complete():
            self._answered()

    def _headed(self, data: bytes) -> bytes:
        """Read on in the head; what comes after it."""
        self.head += data
        head, end, rest = self.head.partition(b"\r\n\r\n")
        if not end:
            return b""
        self.head = head.lower()
        self.status = int(head[9:12])
        _, found, after = self.head.partition(b"\r\ncontent-length:")
        self.length = int(after.split(b"\r\n", 1)[0]) if found else None
        return rest

    def _complete(self) -> bool:
        return self.tail.endswith(LAST_CHUNK) if self.length is None else self.size >= self.length

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        if self.asked:
            self.status = 0
            self._answered()

    def _answered(self) -> None:
        now, asked = time.perf_counter(), self.asked
        self.asked = 0.0
        told = b"\r\nretry-after:" in self.head
        first = (self.first or now) - asked
        row = (asked - self.started, now - asked, first, self.status, self.events, self.size, self.mark, told)
        self.ended(self, Answer(*row))


class _Run:
    """One order being carried out."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.asks = [Ask(**ask) for ask in order["asks"]]
        self.requests = [ask.bytes() for ask in self.asks]
        self.seconds: float = order["seconds"]
        self.answers: list[Answer] = []
        self.in_flight = 0
        self.quiet = asyncio.Event()
        self.free: deque[_Connection] = deque()
        self.started = time.perf_counter()
        self.turns = itertools.cycle(range(len(self.asks)))

    async def closed(self, connections: int) -> None:
        self.started = time.perf_counter()
        await asyncio.gather(*(self._send(next(self.turns), self._again) for _ in range(connections)))
        await asyncio.wait_for(self.quiet.wait(), self.seconds + PATIENCE_S)

    async def open(self, per_second: float) -> None:
        self.started = due = time.perf_counter()
        weights = [ask.share for ask in self.asks]
        starts: set[asyncio.Task[None]] = set()
        while (due := due + random.expovariate(per_second)) < self.started + self.seconds:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            which = random.choices(range(len(self.asks)), weights)[0]
            task = asyncio.create_task(self._send(which, self._keep, due))
            starts.add(task)
            task.add_done_callback(starts.discard)
        await asyncio.gather(*starts)
        if self.in_flight:
            await asyncio.wait_for(self.quiet.wait(), PATIENCE_S)

    async def _send(self, which: int, ended: Callable[[_Connection, Answer], None], due: float | None = None) -> None:
        self.in_flight += 1
        self.quiet.clear()
        while self.free and not self.free[-1].transport:  # the server has closed it meanwhile
            self.free.pop()
        connection = self.free.pop() if self.free else await self._connect(self.asks[which].port, ended)
        connection.ask(self.requests[which], self.asks[which].mark, due or time.perf_counter())

    async def _connect(self, port: int, ended: Callable[[_Connection, Answer], None]) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self.started, ended), "127.0.0.1", port)
        return connection

    def _again(self, connection: _Connection, answer: Answer) -> None:
        self.answers.append(answer)
        if connection.transport and time.perf_counter() < self.started + self.seconds:
            which = next(self.turns)
            connection.ask(self.requests[which], self.asks[which].mark, time.perf_counter())
        else:
            self._over()

    def _keep(self, connection: _Connection, answer: Answer) -> None:
        self.answers.append(answer)
        self._over()
        if connection.transport and not connection.transport.is_closing():
            self.free.append(connection)

    def _over(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.quiet.set()

    def close(self) -> None:
        for connection in self.free:
            if connection.transport:
                connection.transport.close()


async def _carry_out(order: dict[str, Any]) -> dict[str, Any]:
    run = _Run(order)
    busy = time.process_time()
    if order["way"] == "closed":
        await run.closed(order["connections"])
    else:
        await run.open(order["per_second"])
    elapsed = time.perf_counter() - run.started
    busy = time.process_time() - busy
    run.close()
    return {"elapsed_s": elapsed, "busy_s": busy, "answers": list(_rows(run.answers))}


def _rows(answers: list[Answer]) -> Iterator[list[Any]]:
    for answer in answers:
        yield list(asdict(answer).values())


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def main() -> None:
    for line in sys.stdin:
        found = uvloop.run(_carry_out(json.loads(line)))
        Path(sys.argv[1]).write_text(json.dumps(found))
        print("done", flush=True)


if __name__ == "__main__":
    main()
