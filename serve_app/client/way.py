"""How requests get to a service, whatever is in between."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from serve_app.types import Decision, Delta, Done, Job


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers, and why in one short line."""

    model: str
    version: str
    route: str


Run = AsyncGenerator[Answerer | Delta | Done]


class Way(Protocol):
    def run(self, job: Job) -> Run: ...
    async def decide(self, job: Job) -> Decision: ...
    async def models(self) -> list[str]: ...
    async def aclose(self) -> None: ...
