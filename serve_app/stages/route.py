"""Where a job goes: ask the policy, tell the door, pass the engine's events on.

This is the innermost handler and the only place that knows more than one engine.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from serve_app.policies.routing import Candidate, Health, Router
from serve_app.types import Event, Handler, Job, Routed


def route(router: Router, engines: Mapping[str, Handler], health: Callable[[], Mapping[str, Health]]) -> Handler:
    """The handler that sends each job to the engine of its best candidate."""

    async def handle(job: Job) -> AsyncIterator[Event]:
        best = router.decide(job, health())[0]
        yield Routed(best.decision)
        async for event in _answer(best, engines, job):
            yield event

    return handle


async def _answer(candidate: Candidate, engines: Mapping[str, Handler], job: Job) -> AsyncIterator[Event]:
    async with contextlib.aclosing(engines[candidate.decision.engine](candidate.apply(job))) as events:  # type: ignore[type-var]
        async for event in events:
            yield event
