"""A server that speaks OpenAI's API on raw sockets, and breaks in every way that the name of the model asks for.

`steady` answers with words made from the last message. `fault-before` breaks before the first token, `fault-after` in
the middle of an answer.
"""

import asyncio
import contextlib
import functools
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

WORDS = 8
DELAY_S = 0.005
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CALL = {"id": "call_7", "type": "function", "function": {"name": "add", "arguments": ""}}
REFUSALS: dict[str, tuple[int, dict[str, str], dict[str, Any]]] = {
    "quota": (429, {}, {"code": "insufficient_quota", "type": "insufficient_quota", "message": "SECRET words"}),
    "rate": (429, {"retry-after": "7"}, {"code": "rate_limit_exceeded", "message": "SECRET words"}),
    "overloaded": (503, {"retry-after": "3"}, {"message": "SECRET words"}),
    "broken": (500, {}, {"message": "SECRET words"}),
    "key": (401, {}, {"code": "invalid_api_key", "message": "SECRET words"}),
    "bad": (400, {}, {"code": "bad", "message": "SECRET words"}),
    "long": (400, {}, {"code": "context_length_exceeded", "message": "SECRET words"}),
}
USAGES: dict[str, Any] = {
    "negative": {"prompt_tokens": -5, "completion_tokens": 8, "total_tokens": 3},
    "huge": {"prompt_tokens": 5, "completion_tokens": 10**9, "total_tokens": 10**9 + 5},
    "huge prompt": {"prompt_tokens": 10**7, "completion_tokens": 8, "total_tokens": 10**7 + 8},
    "none": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
    "words": {"prompt_tokens": "5", "completion_tokens": 8.5, "total_tokens": True},
    "unequal": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 5},
    "cached": {"prompt_tokens": 5, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 50}},
    "text": "plenty",
    "missing": None,
}


LAST_WORDS = {
    "garbage": b"data: {broken\n\n",
    "type": b'data: {"choices": [{"index": 0, "delta": {"content": 5}}]}\n\n',
    "told": b'data: {"error": {"message": "SECRET words", "code": "server_error"}}\n\n',
    "quota in stream": b'data: {"error": {"message": "SECRET words", "code": "insufficient_quota"}}\n\n',
}
DRIPS = {"slow": (b": x\n" * 3, 0.012), "endless": (b"data: " + b"x" * 65536, 0.0)}
"""1 KB/s of what never becomes an event, and an event without an end."""


class Upstream:
    """What it was asked, and how many connections are open."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.answering = 0
        self.connections = 0
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def close(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.heads.append(head)
                self.asked.append(body)
                await self._while_there(reader, writer, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _while_there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: Any) -> None:
        gone = asyncio.create_task(_gone(reader))
        answer = asyncio.create_task(self._answer(body, writer))
        self.answering += 1
        try:
            await asyncio.wait([gone, answer], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ConnectionResetError
            await answer
        finally:
            self.answering -= 1
            answer.cancel()
            gone.cancel()
            await asyncio.gather(gone, answer, return_exceptions=True)

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        fault, _, when = body["model"].rpartition("-")
        if "input" in body:
            await _embedded(writer, body, fault)
        elif fault in REFUSALS and when == "before":
            await _refuse(writer, *REFUSALS[fault])
        elif when == "redirect":
            writer.write(f"HTTP/1.1 307 X\r\nlocation: {fault}\r\ncontent-length: 0\r\n\r\n".encode())
        elif fault == "html":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello")
        elif when == "before":
            await self._break(fault, writer, b"")
        else:
            await self._stream(body, writer, fault, when)

    async def _stream(self, body: dict[str, Any], writer: asyncio.StreamWriter, fault: str, when: str) -> None:
        writer.write(HEAD.encode())
        pieces = _pieces(body)
        for at, piece in enumerate(pieces):
            if when == "after" and at == len(pieces) // 2:
                await self._break(fault, writer, b"already")
                return
            await asyncio.sleep(DELAY_S if at else 0)
            writer.write(_chunk(piece))
        finish, said = _finish(body), sum("delta" in p["choices"][0] or "text" in p["choices"][0] for p in pieces)
        for index in range(body.get("n", 1)):
            writer.write(_chunk({"choices": [{"index": index, "delta": {}, "finish_reason": finish}]}))
        usage = {"prompt_tokens": 5, "completion_tokens": said, "total_tokens": 5 + said}
        if when == "usage":
            usage = USAGES[fault]
        if body.get("stream_options", {}).get("include_usage") and usage is not None:
            writer.write(_chunk({"choices": [], "usage": usage}))
        if fault != "undone":
            writer.write(_framed(b"data: [DONE]\n\n"))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _break(self, fault: str, writer: asyncio.StreamWriter, sent: bytes) -> None:
        """A fault, after the head and half of the answer if those have been `sent`."""
        if not sent and fault not in ("reset", "silent", "half"):
            writer.write(HEAD.encode())
        if fault in LAST_WORDS:
            writer.write(_framed(LAST_WORDS[fault]) + b"0\r\n\r\n")
        elif fault in DRIPS:
            drop, every_s = DRIPS[fault]
            while True:
                writer.write(_framed(drop))
                await writer.drain()
                await asyncio.sleep(every_s)
        elif fault == "silent":
            await asyncio.sleep(60)
        elif fault == "half":
            writer.write(b"fff\r\ndata: {")
            await writer.drain()
            writer.close()
        elif fault == "cut":
            writer.write(b"0\r\n\r\n")
        else:
            writer.transport.abort()


async def _gone(reader: asyncio.StreamReader) -> None:
    """Until the other side closes its end. Nothing is read: the next request is for somebody else."""
    while not reader.at_eof():
        await asyncio.sleep(0.005)


def _pieces(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of an answer: words that depend on the prompt, or a call if there are tools."""
    n = body.get("n", 1)
    if body.get("tools"):
        first = {"index": 0, **CALL}
        parts = [{"index": 0, "function": {"arguments": text}} for text in ('{"a": ', "1, ", '"b": 2}')]
        return [{"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]} for part in (first, *parts)]
    asked = body["prompt"] if "prompt" in body else str(body["messages"][-1]["content"])
    words = [f"{sum(asked.encode()) * (at + 3) % 97} " for at in range(WORDS)][: body.get("max_tokens", WORDS)]
    if body["model"] == "json":
        words = ['{"a": ', "1}"]
    form = (lambda i, w: {"index": i, "text": w}) if "prompt" in body else _delta
    return [{"choices": [form(index, word)]} for word in words for index in range(n)]


def _delta(index: int, word: str) -> dict[str, Any]:
    return {"index": index, "delta": {"content": word}}


def _finish(body: dict[str, Any]) -> str:
    if body.get("tools"):
        return "tool_calls"
    return "length" if body.get("max_tokens", WORDS) < WORDS else "stop"


def _chunk(data: dict[str, Any]) -> bytes:
    return _framed(b"data: " + json.dumps(data).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _embedded(writer: asyncio.StreamWriter, body: dict[str, Any], wrong: str) -> None:
    """Each text as its length and a half, in the wrong order; with a row missing or odd if it is asked for."""
    rows: list[Any] = [{"index": i, "embedding": [float(len(text)), 0.5]} for i, text in enumerate(body["input"])]
    if wrong == "short":
        rows.pop()
    if wrong == "odd":
        rows[0]["embedding"] = [1.0]
    if wrong == "words":
        rows[0]["embedding"] = ["SECRET", 0.5]
    answer = json.dumps({"data": rows[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}}).encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    writer.write(f"content-length: {len(answer)}\r\n\r\n".encode())
    writer.write(answer)
    await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], error: dict[str, Any]) -> None:
    body = json.dumps({"error": error}).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    await writer.drain()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.open()
    yield upstream
    await upstream.close()


@functools.cache
def in_background() -> str:
    """The URL of an upstream that runs in a thread until the process ends."""
    upstream, ready = Upstream(), threading.Event()

    async def serve() -> None:
        await upstream.open()
        ready.set()
        await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(5)
    return upstream.url
