"""The contract of every engine.

An engine is a plain class. It does not know that it is served: no Ray, no HTTP, no tenant. A new one is one file in
`deployments/` with a subclass of `Engine`, and one entry in a profile.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from serve_app.types import Event, Handler, Job, Kind


class EngineOptions(BaseModel):
    """Base of an engine's own settings: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Engine(ABC):
    """Something that answers jobs.

    Lifecycle: `__init__` (cheap, no heavy import) → `load()` once per replica → any number of concurrent `run()`
    → `close()`. The host runs at most `slots` jobs at a time.
    """

    class Options(EngineOptions):
        pass

    kinds: ClassVar[frozenset[Kind]]
    """The kinds of job that this engine answers."""

    needs: ClassVar[Mapping[str, Kind]] = {}
    """Other engines that this one calls, by the name under which it finds their handler in `self.handlers`."""

    may_need: ClassVar[Mapping[str, Kind]] = {}
    """The same for engines that it can do without; a profile names them or leaves them out."""

    @classmethod
    def whereabouts(cls, options: EngineOptions) -> tuple[str, str] | None:  # noqa: ARG003 - for those who override it
        """Pool and region to which an engine passes on what it is sent; None if it answers by itself."""
        return None

    def __init__(self, options: EngineOptions, handlers: Mapping[str, Handler] | None = None, slots: int = 1) -> None:
        self.options = options
        self.handlers = handlers or {}
        self.slots = slots

    async def load(self) -> None:  # noqa: B027 - an engine with nothing to load leaves it out
        """Load weights and import what is heavy. Raising here marks the replica as broken."""

    @abstractmethod
    def run(self, job: Job) -> AsyncGenerator[Event]:
        """Answer one job with `Delta`, `ToolDelta`, `Progress` and `Artifact`, then exactly one `Done`, or raise.

        `job.model` names the model. The usage of `Done` is this engine's own: that of engines that it calls is added by
        the host. Closing the iterator (`aclose`, or a cancelled task) must free whatever the run
        holds within a second. Bad input raises `BadRequest` before the first event.
        """

    async def check(self) -> None:  # noqa: B027 - most engines are healthy as long as they answer
        """Raise if the engine can no longer answer; the replica is then replaced."""

    def gauges(self) -> Mapping[str, float]:
        """What the engine says of itself at this moment, shown beside the host's metrics. The names never change."""
        return {}

    async def close(self) -> None:  # noqa: B027 - as above
        """Free what `load` took. Called once, after the last run."""
