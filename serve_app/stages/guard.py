"""What a caller's key allows: this kind of job, at most this priority, so many requests and tokens a minute.

Doors find out who calls; what that caller may do is decided here, so that every door keeps it, and so do callers that
bring a `Caller` of their own over a handle.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from serve_app.policies.access import require, scope_of
from serve_app.policies.prompting import estimate_prompt
from serve_app.services.rates import Rates
from serve_app.types import Delta, Done, Event, Handler, Job, Routed, Stage, ToolDelta


def guard(rates: Rates) -> Stage:
    """The stage that lets through what is allowed. Raises `Forbidden` and `RateLimited`."""

    def stage(handler: Handler) -> Handler:
        async def run(job: Job) -> AsyncGenerator[Event]:
            require(job.caller, scope_of(job.kind))
            prompt = estimate_prompt(job.payload)
            taken, used = rates.take(job.caller, prompt + _answer_tokens(job)), 0
            try:
                async with contextlib.aclosing(handler(_lowered(job))) as events:
                    async for event in events:
                        used = _used(event, used, prompt)
                        yield event
            finally:
                rates.settle(job.caller, taken, used)

        return run

    return stage


def _lowered(job: Job) -> Job:
    """The job with no more priority than its caller's tier."""
    priority = max(job.constraints.priority, job.caller.tier)
    return replace(job, constraints=replace(job.constraints, priority=priority))


def _answer_tokens(job: Job) -> int:
    """What the caller asks for at most. Without a bound only what was really used is counted, afterwards."""
    sampling = job.payload.sampling
    return (sampling.max_tokens or 0) * sampling.n


def _used(event: Event, used: int, prompt: int) -> int:
    """Tokens used so far: as estimated and seen until the engine has counted them."""
    match event:
        case Routed():
            return prompt
        case Delta() | ToolDelta():
            return used + event.tokens
        case Done(usage):
            return usage.total_tokens
    return used
