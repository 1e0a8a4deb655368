"""A very light server that speaks the OpenAI wire: what gateways forward to, and the floor that they are measured from.

It looks at two things of a request: whether it is to be streamed, and its model, `fake-0ms` or `fake-5ms`, which says
how long to wait before each token but the first. Every answer has the same tokens.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import uvloop

TOKENS = 50


class Upstream(asyncio.Protocol):
    """One connection; a request must have a `content-length`."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""
        self.answering: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        _, found, after = head.lower().partition(b"content-length:")
        if not end or (found and len(body) < int(after.split(b"\r\n", 1)[0])):
            return
        self.received = b""
        delay_s = 0.005 if b"fake-5ms" in body else 0.0
        streamed = b'"stream":true' in body.replace(b" ", b"")
        if delay_s:
            self.answering = asyncio.create_task(self._slowly(streamed, delay_s))
        else:
            self.transport.write(b"".join(EVENTS) if streamed else WHOLE)

    async def _slowly(self, streamed: bool, delay_s: float) -> None:
        for at, event in enumerate(EVENTS[:TOKENS]):
            if at:
                await asyncio.sleep(delay_s)
            if streamed:
                self.transport.write(event)
        self.transport.write(b"".join(EVENTS[TOKENS:]) if streamed else WHOLE)


def _sse() -> Iterator[bytes]:
    for at in range(TOKENS):
        yield _event({"index": 0, "delta": {"content": f"{at} "} | ({} if at else {"role": "assistant"})})
    yield _event({"index": 0, "delta": {}, "finish_reason": "stop"})
    yield b"data: [DONE]\n\n"


def _event(choice: dict[str, object]) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _on_the_wire(events: list[bytes]) -> list[bytes]:
    """In HTTP/1.1's chunked coding; the first one brings the head with it, the last one the end."""
    first, *others, last = [f"{len(event):x}\r\n".encode() + event + b"\r\n" for event in events]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head + first, *others, last + b"0\r\n\r\n"]


def _whole() -> bytes:
    message = {"role": "assistant", "content": "".join(f"{at} " for at in range(TOKENS))}
    usage = {"prompt_tokens": 4, "completion_tokens": TOKENS, "total_tokens": TOKENS + 4}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake"}
    return json.dumps({**answer, "choices": [choice], "usage": usage}).encode()


SSE = list(_sse())
EVENTS = _on_the_wire(SSE)
WHOLE_BODY = _whole()
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    + f"content-length: {len(WHOLE_BODY)}\r\n\r\n".encode()
    + WHOLE_BODY
)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
