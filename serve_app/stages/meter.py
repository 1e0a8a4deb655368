"""One row in the ledger for every run, however it ends: reserved before it, settled after it.

A whole answer is charged for what the engine says it used. An answer that was cut, by its caller or by a failure, is
charged for the tokens that came out, an estimate of the prompt's tokens (only the engine could count them) and the
time since its first sign. What never produced anything, and what the cache answered, costs nothing. Nothing ever
costs more than was reserved for it.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import replace

from serve_app import logs
from serve_app.errors import MegaCityError, Unavailable
from serve_app.policies.pricing import Tariff, microseconds
from serve_app.policies.prompting import estimate_prompt
from serve_app.services.ledger import Ledger, Row, now_ms
from serve_app.types import (
    Artifact,
    Decision,
    Delta,
    Done,
    Event,
    Handler,
    Job,
    Progress,
    Routed,
    Stage,
    ToolDelta,
    Usage,
)


def meter(ledger: Ledger, tariff: Tariff) -> Stage:
    """The stage that keeps `ledger`. Raises `InsufficientQuota`, and `Unavailable` if the ledger must be kept."""

    def stage(handler: Handler) -> Handler:
        async def run(job: Job) -> AsyncGenerator[Event]:
            bill = _Bill(job, tariff, ledger)
            await bill.open()
            try:
                async with contextlib.aclosing(handler(job)) as events:
                    async for event in events:
                        yield bill.see(event)
            except MegaCityError as error:
                bill.close(type(error).code or "internal_error")
                raise
            except (GeneratorExit, asyncio.CancelledError):
                bill.close("cancelled")
                raise
            finally:
                bill.close("engine_failed")  # whatever has not been closed by now broke

        return run

    return stage


class _Bill:
    """What is known of one run's cost. The first of its endings counts."""

    def __init__(self, job: Job, tariff: Tariff, ledger: Ledger) -> None:
        self.job = job
        self.tariff = tariff
        self.ledger = ledger
        self.tokens = 0
        self.first = 0.0
        self.hit = False
        self.attempts = 0
        self.decision: Decision = job.plan[0].decision
        self.closed = False
        self.bound = tariff.bound(job)
        self.row = self._row()

    async def open(self) -> None:
        try:
            await self.ledger.reserve(self.row, self.job.caller.budget_nano_usd)
        except Unavailable:
            if self.ledger.required:
                raise
            self.row = replace(self.row, reserved_nano=0)

    def see(self, event: Event) -> Event:
        match event:
            case Routed(decision, cache, attempts):
                self.decision, self.hit = decision, cache == "hit"
                self.attempts = 0 if self.hit else attempts
                self.tokens, self.first = 0, 0.0  # of an attempt that was lost before
            case Delta() | ToolDelta():
                self.first = self.first or time.perf_counter()
                self.tokens += event.tokens
            case Progress() | Artifact():
                self.first = self.first or time.perf_counter()
            case Done(usage):
                event = replace(event, usage=replace(usage, cost_nano_usd=self._charge(usage)))
                self._settle("cache_hit" if self.hit else "ok", event.usage)
        return event

    def close(self, outcome: str) -> None:
        """The end of a run that said nothing of its usage."""
        if not self.closed:
            usage = self._seen()
            self._settle(outcome, replace(usage, cost_nano_usd=self._charge(usage)))

    def _settle(self, outcome: str, usage: Usage) -> None:
        if self.closed:
            return
        self.closed = True
        priced = self.tariff.cost(self.decision, usage)
        self.ledger.settle(
            replace(
                self.row,
                state="settled",
                outcome=outcome,
                settled_ms=now_ms(),
                model=self.decision.model,
                version=self.decision.version,
                engine=self.decision.engine,
                node_class=self.decision.node_class,
                attempts=self.attempts,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                engine_us=0 if self.hit else microseconds(usage.engine_s),
                audio_ms=round(usage.audio_s * 1000),
                frames=usage.frames,
                characters=usage.characters,
                cost_nano=usage.cost_nano_usd,
                saved_nano=priced if self.hit else 0,
            )
        )

    def _charge(self, usage: Usage) -> int:
        return 0 if self.hit else min(self.tariff.cost(self.decision, usage), self.bound)

    def _seen(self) -> Usage:
        if not self.first or self.hit:
            return Usage()
        read = estimate_prompt(self.job.payload) if self.tokens else 0
        return Usage(read, self.tokens, engine_s=time.perf_counter() - self.first)

    def _row(self) -> Row:
        caller, who = self.job.caller, self.decision
        return Row(
            id=uuid.uuid4().hex,
            request_id=self.job.id,
            created_ms=now_ms(),
            tenant=caller.tenant,
            door=str(logs.bound().get("door", "handle")),
            kind=self.job.kind,
            model=who.model,
            version=who.version,
            engine=who.engine,
            node_class=who.node_class,
            account=f"key:{caller.key}" if caller.budget_nano_usd is not None else None,
            key_id=caller.key,
            user_id=caller.user,
            zone=who.zone,
            owner=self.ledger.owner,
            reserved_nano=self.bound,
        )
