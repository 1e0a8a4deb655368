"""Engines that do as a script says, one entry per run, and a dispatch over them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from serve_app.errors import MegaCityError
from serve_app.policies.routing import Health
from serve_app.stages.dispatch import dispatch
from serve_app.types import Candidate, Chat, Constraints, Decision, Delta, Done, Event, Handler, Job, Kind, Message

Script = MegaCityError | str
"""What a run does: raise this error before the first event, or one of the words that `Scripted` knows."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scripted:
    """Follows its script, then says `ok` for ever, or what `otherwise` says."""

    name: str
    script: list[Script] = field(default_factory=list)
    otherwise: Script = "ok"
    after_first: MegaCityError | None = None
    runs: int = 0
    open_runs: int = 0
    models: list[str | None] = field(default_factory=list)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self.runs += 1
        self.open_runs += 1
        self.models.append(job.model)
        try:
            async for event in self._play(self.script.pop(0) if self.script else self.otherwise):
                yield event
        finally:
            self.open_runs -= 1

    async def _play(self, step: Script) -> AsyncGenerator[Event]:
        if isinstance(step, MegaCityError):
            raise step
        if step == "hang":
            await asyncio.Event().wait()
        if step == "nothing":
            return
        yield Delta(self.name)
        if step == "broken":
            assert self.after_first
            raise self.after_first
        if step == "hang later":
            await asyncio.Event().wait()
        if step != "cut":
            yield Done()


@dataclass
class Bench:
    """A dispatch over scripted engines `a`, `b` and `c`, planned in this order."""

    clock: Clock = field(default_factory=Clock)
    engines: dict[str, Scripted] = field(default_factory=lambda: {name: Scripted(name) for name in "abc"})
    health: dict[str, Health] = field(default_factory=dict)
    woken: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    run: Handler = field(init=False)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def __post_init__(self) -> None:
        handlers = {name: engine.run for name, engine in self.engines.items()}
        self.run = dispatch(handlers, lambda: self.health, self.woken.append, self.clock, self.pause)

    @property
    def attempts(self) -> int:
        return sum(engine.runs for engine in self.engines.values())

    async def ask(
        self, plan: str = "abc", deadline: float | None = None, wakes: str | None = None, **more: Any
    ) -> list[Event]:
        async with contextlib.aclosing(self.run(job(plan, deadline, wakes, **more))) as events:
            return [event async for event in events]


def job(plan: str = "abc", deadline: float | None = None, wakes: str | None = None, **more: Any) -> Job:
    candidates = tuple(
        Candidate(Decision(name, f"model-{name}", "1", "onprem", reasons=("default",)), wakes=wakes) for name in plan
    )
    chat = Chat((Message("user", "hello"),))
    return Job("job-1", Kind.CHAT, chat, constraints=Constraints(deadline=deadline, **more), plan=candidates)


@pytest.fixture
def bench() -> Bench:
    return Bench()
