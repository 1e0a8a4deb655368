"""Carry a planned job to an engine and bring its events back: the innermost handler, which alone knows the engines."""

import contextlib
from collections.abc import AsyncGenerator, Mapping

from serve_app.types import Event, Handler, Job, Routed


def dispatch(engines: Mapping[str, Handler]) -> Handler:
    """The handler that sends each job to the engine of its best candidate."""

    async def run(job: Job) -> AsyncGenerator[Event]:
        best = job.plan[0]
        yield Routed(best.decision)
        async with contextlib.aclosing(engines[best.decision.engine](best.apply(job))) as events:
            async for event in events:
                yield event

    return run
