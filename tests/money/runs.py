"""A metered handler whose script says how a run goes, and jobs that are planned already."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from serve_app.policies.pricing import Price, Tariff
from serve_app.services.ledger import Ledger
from serve_app.stages.meter import meter
from serve_app.types import (
    Caller,
    Candidate,
    Chat,
    Decision,
    Delta,
    Done,
    Event,
    Handler,
    Job,
    Kind,
    Message,
    Routed,
    Sampling,
    Usage,
)

DECISION = Decision("llm", "nano", "2", "onprem", zone="campus")
ROUTED = Routed(DECISION)
TARIFF = Tariff({("nano", "2"): Price(context_tokens=100, input=10**9, output=2 * 10**9, cached=5 * 10**8)})
"""1,000 nano-dollars a prompt token, 2,000 a token written, 500 a cached one."""
USAGE = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, engine_s=0.25)
COST = 4 * 1000 + 3 * 500 + 5 * 2000
BOUND = 100 * 1000 + 10 * 2000
WHOLE: list[Event] = [ROUTED, Delta("four", tokens=2), Delta("teen", tokens=3), Done(USAGE)]


def job(**caller: Any) -> Job:
    payload = Chat((Message("user", "three little words"),), Sampling(max_tokens=10))
    return Job("req-1", Kind.CHAT, payload, Caller(**caller), plan=(Candidate(DECISION),))


def metered(ledger: Ledger, *script: Event | BaseException, pause_s: float = 0.0) -> Handler:
    async def engine(_: Job) -> AsyncGenerator[Event]:
        for item in script:
            await asyncio.sleep(pause_s)
            if isinstance(item, BaseException):
                raise item
            yield item

    return meter(ledger, TARIFF)(engine)


async def drain(handler: Handler, a_job: Job) -> list[Event]:
    return [event async for event in handler(a_job)]
