"""An engine that is only ever planned, never loaded."""

from collections.abc import AsyncGenerator

from serve_app.engine import Engine, EngineOptions
from serve_app.types import Event, Job, Kind


class Speech(Engine):
    class Options(EngineOptions):
        model: str = "large-v3"
        compute_type: str = "float16"

    kinds = frozenset({Kind.CHAT})

    def run(self, job: Job) -> AsyncGenerator[Event]:
        raise NotImplementedError
