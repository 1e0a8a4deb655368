"""Answers made of everything that a run has yielded."""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Send

from serve_app.api.calls import Call
from serve_app.api.responses import Reply
from serve_app.api.shapes import TextShape
from serve_app.policies.pricing import usd
from serve_app.types import Artifact, Decision, Delta, Done, Event, Routed, Usage


@dataclass
class Collected:
    """`artifacts` by their names, each of all its pieces; the text of all deltas as one; `usage` once it is done."""

    decision: Decision | None = None
    cache: str = "bypass"
    text: str = ""
    pieces: dict[str, list[bytes]] = field(default_factory=dict)
    media_types: dict[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def take(self, event: Event) -> None:
        match event:
            case Routed(decision, cache):  # a second one means that the run has started anew
                self.decision, self.cache = decision, cache
                self.text, self.pieces = "", {}
            case Delta(text):
                self.text += text
            case Artifact(name, media_type, data):
                self.pieces.setdefault(name, []).append(data)
                self.media_types[name] = media_type
            case Done(usage):
                self.usage = usage

    @property
    def artifacts(self) -> dict[str, bytes]:
        return {name: b"".join(pieces) for name, pieces in self.pieces.items()}

    def json(self, name: str) -> Any:
        return orjson.loads(self.artifacts[name])


class AsJson(Reply):
    """The run's answer as one JSON object, which `shape` makes of what was collected, at once or as a coroutine."""

    def __init__(
        self, run: AsyncGenerator[Event], call: Call, shape: Callable[[Collected], Any], status: int = 200
    ) -> None:
        super().__init__(run, TextShape(()), call)
        self.make = shape
        self.status = status

    async def answer(self, send: Send) -> None:
        collected = Collected()
        async with aclosing(self.run) as events:
            async for event in events:
                collected.take(event)
        self.decision, self.cache = collected.decision, collected.cache
        made = self.make(collected)
        body = orjson.dumps(await made if inspect.isawaitable(made) else made)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self.explained(),
            "x-megacity-cost-usd": usd(collected.usage.cost_nano_usd),
        }
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
