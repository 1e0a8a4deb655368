"""How requests get to a service, whatever is in between."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.client.results import Source
from serve_app.types import Decision, Delta, Done, Job, Usage


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers, and why in one short line."""

    model: str
    version: str
    route: str


@dataclass(frozen=True, slots=True)
class Found:
    """The whole answer of any engine: its text, and its artifacts by their names, those in JSON already read."""

    who: Answerer
    text: str = ""
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def source(self, job: Job) -> Source:
        return Source(self.who.model, self.who.version, self.who.route, self.usage.cost_usd, job.id)


Run = AsyncGenerator[Answerer | Delta | Done]


class Way(Protocol):
    def run(self, job: Job) -> Run: ...
    async def ask(self, job: Job) -> Found: ...
    async def decide(self, job: Job) -> Decision: ...
    async def models(self) -> list[str]: ...
    async def aclose(self) -> None: ...
