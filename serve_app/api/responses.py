"""Answers to text jobs: in one piece, or as server-sent events."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import replace
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app.api import envelope
from serve_app.api.answers import TIER_NAMES
from serve_app.api.calls import Call
from serve_app.api.runs import Feed, while_connected
from serve_app.api.shapes import Shape
from serve_app.policies.pricing import usd
from serve_app.policies.routing import route_header
from serve_app.types import Decision, Delta, Done, Event, Routed, ToolCall, ToolDelta, Usage

END = b"data: [DONE]\n\n"
HEARTBEAT = b": keep-alive\n\n"
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
LONGEST_HEADER = 256


class Reply(Response):
    """An answer that stops the run behind it as soon as the client is gone. `files` are kept until then."""

    def __init__(self, run: AsyncGenerator[Event], shape: Shape, call: Call) -> None:
        super().__init__()
        self.run = run
        self.shape = shape
        self.call = call
        self.created = int(time.time())
        self.decision: Decision | None = None
        self.cache = "bypass"
        self.files = ExitStack()

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        with self.files:
            await while_connected(self.answer(send), receive)

    async def answer(self, send: Send) -> None:
        raise NotImplementedError

    def head(self, kind: str) -> dict[str, Any]:
        """What every object of this answer starts with."""
        decision = self.decision
        return {
            "id": self.shape.prefix + self.call.id,
            "object": kind,
            "created": self.created,
            "model": decision.model if decision else None,
            "system_fingerprint": decision.version if decision else None,
            "service_tier": TIER_NAMES[decision.priority] if decision else None,
        }

    def explained(self) -> dict[str, str]:
        """Headers that say who answers and why."""
        if self.decision is None:
            return {}
        return {
            "x-megacity-model": header_text(f"{self.decision.model}@{self.decision.version}"),
            "x-megacity-route": header_text(route_header(self.decision)),
            "x-megacity-cache": self.cache,
        }


class Whole(Reply):
    """The answer in one piece."""

    async def answer(self, send: Send) -> None:
        texts: defaultdict[int, list[str]] = defaultdict(list)
        calls: defaultdict[int, dict[int, ToolCall]] = defaultdict(dict)
        done = Done()
        async with aclosing(self.run) as events:
            async for event in events:
                match event:
                    case Routed():
                        self.decision, self.cache = event.decision, event.cache
                        texts.clear()
                        calls.clear()
                    case Delta(text, index):
                        texts[index].append(text)
                    case ToolDelta():
                        _add(calls[event.index], event)
                    case Done():
                        done = event
        choices = [
            self.shape.choice(i, "".join(texts[i]), finish, tuple(calls[i].values()))
            for i, finish in enumerate(done.finish)
        ]
        usage = usage_dict(done.usage, done.estimated)
        body = orjson.dumps({**self.head(self.shape.whole), "choices": choices, "usage": usage})
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        cost = {"x-megacity-cost-usd": usd(done.usage.cost_nano_usd)}
        await _start(send, 200, {**headers, **self.explained(), **cost})
        await _write(send, body, more=False)


class Streamed(Reply):
    """The answer as it comes. Headers wait for the first event, so that a failure before it has its own status."""

    def __init__(
        self, run: AsyncGenerator[Event], shape: Shape, call: Call, heartbeat_s: float, include_usage: bool
    ) -> None:
        super().__init__(run, shape, call)
        self.heartbeat_s = heartbeat_s
        self.include_usage = include_usage

    async def answer(self, send: Send) -> None:
        async with Feed(self.run) as feed:
            opening = b"".join(self._opened(await self._first(feed)))
            await _start(send, 200, {**STREAM_HEADERS, **self.explained()})
            await _write(send, opening)
            try:
                await self._follow(feed, send)
            except Exception as error:  # noqa: BLE001 - the status is out: whatever broke can only be told in the stream
                await _write(send, _event(envelope.presentable(error, self.call.id).envelope()))
        await _write(send, END, more=False)

    async def _first(self, feed: Feed) -> list[Event]:
        """The first events that carry something for the caller."""
        while events := await feed.take():
            for event in events:
                if isinstance(event, Routed):
                    self.decision, self.cache = event.decision, event.cache
            if any(isinstance(event, Delta | ToolDelta | Done) for event in events):
                return events
        return []

    async def _follow(self, feed: Feed, send: Send) -> None:
        while True:
            try:
                async with asyncio.timeout(self.heartbeat_s):
                    events = await feed.take()
            except TimeoutError:
                await _write(send, HEARTBEAT)
                continue
            if not events:
                return
            await _write(send, b"".join(self._chunks(events)))

    def _opened(self, events: list[Event]) -> Iterator[bytes]:
        first = next((event for event in events if isinstance(event, Delta | ToolDelta)), None)
        called = first if isinstance(first, ToolDelta) else None
        yield from (self._chunk([choice]) for choice in self.shape.opening(called))
        yield from self._chunks(events)

    def _chunks(self, events: list[Event]) -> Iterator[bytes]:
        """One event per delta, so that clients can count tokens; deltas that came together share a send."""
        for event in events:
            match event:
                case Delta(text, index) if text:
                    yield self._chunk([self.shape.piece(index, text)])
                case ToolDelta():
                    yield self._chunk([self.shape.called(event)])
                case Done(usage, finish):
                    for index, reason in enumerate(finish):
                        yield self._chunk([self.shape.closing(index, reason)])
                    if self.include_usage:
                        yield self._chunk([], usage_dict(usage, event.estimated))

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        chunk = {**self.head(self.shape.chunk), "choices": choices}
        if self.include_usage:
            chunk["usage"] = usage
        return _event(chunk)


def _add(calls: dict[int, ToolCall], piece: ToolDelta) -> None:
    """The calls of a choice, by their number, with a piece more of one of them."""
    before = calls.get(piece.number) or ToolCall(piece.id, piece.name, "")
    calls[piece.number] = replace(before, arguments=before.arguments + piece.arguments)


def usage_dict(usage: Usage, estimated: bool = False) -> dict[str, Any]:
    """`estimated` is said only if it is so."""
    return ({"estimated": True} if estimated else {}) | {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "cost_usd": usage.cost_usd,
    }


def header_text(text: str) -> str:
    """`text` as a header value: printable ASCII, and short."""
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    return printable if len(printable) <= LONGEST_HEADER else printable[: LONGEST_HEADER - 3] + "..."


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _write(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
