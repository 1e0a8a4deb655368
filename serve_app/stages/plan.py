"""Ask the policy once who may answer; what comes after reads it from the job."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace

from serve_app.policies.routing import Health, Router
from serve_app.types import Event, Handler, Job, Stage


def plan(router: Router, health: Callable[[], Mapping[str, Health]]) -> Stage:
    """The stage that gives a job its candidates, best first. Raises what `Router.decide` raises."""

    def stage(handler: Handler) -> Handler:
        async def run(job: Job) -> AsyncGenerator[Event]:
            planned = replace(job, plan=router.decide(job, health()))
            async with contextlib.aclosing(handler(planned)) as events:
                async for event in events:
                    yield event

        return run

    return stage
