"""A service without engines: the last user message is a script that says how the run is to go."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.errors import BadRequest, EngineFailed, QueueFull, Unavailable
from serve_app.policies.access import AccessRules
from serve_app.policies.limits import Limits
from serve_app.policies.pricing import NANO, Price, Tariff
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Health, Model, Router
from serve_app.policies.tables import RoutingTables, Task, Zone
from serve_app.stages.structured import structured
from serve_app.types import Delta, Done, Event, Job, Routed, ToolDelta, Usage

EVERYTHING = frozenset({"tools", "json", "logprobs", "penalties", "vision", "audio", "suffix", "video"})
MODELS = {
    "tutor": Model("tutor", "llm", version="3", capabilities=EVERYTHING),
    "org/big": Model("org/big", "remote", owned_by="org"),
}
TABLES = RoutingTables(
    default="tutor", aliases={"gpt-4o": "auto"}, zones={"campus": Zone(model="tutor")}, tasks={"quiz": Task("tutor")}
)
"""Scripts: what the engine does when it reads this as the last message."""
ERRORS = {
    "full": QueueFull("The queue is full. Try again in a second.", retry_after_s=7),
    "down": Unavailable("The engine is waking up."),
    "bad": BadRequest("'messages' is too long for this model.", param="messages", code="context_length_exceeded"),
    "broken": EngineFailed("The engine broke."),
    "cancelled": asyncio.CancelledError(),
    "bug": ZeroDivisionError("the caller's secret"),
}
CALLS: dict[str, list[Event]] = {
    "one": [ToolDelta("", 0, 0, "call_1", "add"), ToolDelta('{"a": 1, '), ToolDelta('"b": 2}')],
    "two": [
        Delta("Let me see."),
        ToolDelta('{"a": 1, "b": 2}', 0, 0, "call_1", "add"),
        ToolDelta('{"a": ', 0, 1, "call_2", "add"),
        ToolDelta('3, "b": 4}', 0, 1),
    ],
    "bad": [ToolDelta('{"a": "one"}', 0, 0, "call_1", "add")],
    "unknown": [ToolDelta("{}", 0, 0, "call_1", "delete_everything")],
    "json": [Delta('{"a": '), Delta("1}")],
}
TARIFF = Tariff({("tutor", "3"): Price(context_tokens=4096, input=NANO, output=2 * NANO)})
OPEN = Access(AccessRules(anonymous=True, hosts=("x", "campus.example")))
USAGE = Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2, engine_s=0.1, cost_nano_usd=120)


@dataclass
class Stub:
    """Runs scripts and remembers what it was asked and how far it got."""

    limits: Limits = field(default_factory=Limits)
    states: dict[str, Health] = field(default_factory=lambda: {"llm": "ready", "remote": "broken"})
    jobs: list[Job] = field(default_factory=list)
    media: list[bytes] = field(default_factory=list)
    produced: int = 0
    running: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    router: Router = field(default_factory=lambda: Router(TABLES, MODELS, Templates()))

    def service(self) -> Service:
        return Service(structured(self.run), self.router, lambda: self.states, self.limits, access=OPEN, tariff=TARIFF)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self.jobs.append(job)
        self.running += 1
        self.closed.clear()
        try:
            self.media.extend(Path(file.path).read_bytes() for file in job.payload.attachments)
            yield Routed(self.router.decide(job, self.states)[0].decision)
            async for event in self._script(job):
                self.produced += 1
                yield event
        finally:
            self.running -= 1
            self.closed.set()

    async def _script(self, job: Job) -> AsyncGenerator[Event]:
        before, _, after = job.payload.text.partition("|")
        if before in ERRORS:
            raise ERRORS[before]
        if before == "hang":
            await asyncio.Event().wait()
        while before == "flood":
            yield Delta("x" * 1000)
        if before == "call":
            for event in CALLS[after]:
                yield event
            yield Done(USAGE, ("tool_calls",))
            return
        async for piece in _spoken(job.payload.sampling.n, before, after):
            yield piece
        if after in ERRORS:
            raise ERRORS[after]
        if after == "hang":
            await asyncio.Event().wait()
        if after != "unfinished":
            yield Done(USAGE, ("stop",) * job.payload.sampling.n)


async def _spoken(choices: int, before: str, after: str) -> AsyncIterator[Delta]:
    for piece in ("안", "녕", "!") if before != "nothing" else ():
        for index in range(choices):
            yield Delta(piece, index)
        if after == "slow":
            await asyncio.sleep(0.05)
