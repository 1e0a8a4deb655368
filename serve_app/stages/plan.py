"""Ask the policy once who may answer; what comes after reads it from the job."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from serve_app.types import Candidate, Event, Handler, Job, Stage


def plan(decide: Callable[[Job], tuple[Candidate, ...]]) -> Stage:
    """The stage that gives a job its candidates, best first. Raises what `decide` raises."""

    def stage(handler: Handler) -> Handler:
        async def run(job: Job) -> AsyncGenerator[Event]:
            planned = replace(job, plan=decide(job))
            async with contextlib.aclosing(handler(planned)) as events:
                async for event in events:
                    yield event

        return run

    return stage
