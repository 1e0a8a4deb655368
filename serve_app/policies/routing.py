"""Which model answers, and why: a pure function of the request, the catalogue and the engines' health."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from serve_app.types import Decision, Job, Kind

Health = Literal["ready", "waking", "broken"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the catalogue, as the profile describes it."""

    id: str
    engine: str
    version: str = "1"
    kinds: frozenset[Kind] = frozenset({Kind.CHAT, Kind.COMPLETION})
    node_class: str = "onprem"
    context_tokens: int = 4096
    capabilities: frozenset[str] = frozenset()
    stand_in: str | None = None
    owned_by: str = "megacity"


Catalogue = Mapping[str, Model]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to answer a job. `instructions` is the text of the decision's template, if it has one."""

    decision: Decision
    instructions: str | None = None

    def apply(self, job: Job) -> Job:
        """The job as this candidate's engine is to see it."""
        raise NotImplementedError


class Router:
    def decide(self, job: Job, health: Mapping[str, Health]) -> tuple[Candidate, ...]:
        """Candidates, best first, at least one; raises `BadRequest` or `ModelNotFound`."""
        raise NotImplementedError
