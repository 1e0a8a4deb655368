"""What every request leaves behind: its metrics and one line in the log, however it ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from serve_app import logs, metrics
from serve_app.errors import EngineFailed, MegaCityError
from serve_app.types import Artifact, Decision, Delta, Done, Event, Handler, Job, Kind, Routed, ToolDelta

OPERATIONS = {Kind.COMPLETION: "text_completion"}  # where the conventions have another word than ours
PROVIDER = "megacity"
DOORS = frozenset({"http", "grpc", "handle"})


def observe(handler: Handler) -> Handler:
    """Measure each run of `handler`: time to first token, time per token, duration, tokens and how it ended."""

    async def run(job: Job) -> AsyncGenerator[Event]:
        sight = _Sight(job)
        try:
            async with contextlib.aclosing(handler(job)) as events:
                async for event in events:
                    sight.see(event)
                    yield event
        except MegaCityError as error:
            sight.error = error
            raise
        except (GeneratorExit, asyncio.CancelledError):
            sight.cancelled = sight.done is None
            raise
        except Exception as error:  # counted and told, then passed on as it is
            sight.error = EngineFailed("the run broke")
            logs.fault("run_failed", error)
            raise
        finally:
            sight.end()

    return run


class _Sight:
    """What was seen of one run."""

    def __init__(self, job: Job) -> None:
        door = logs.bound().get("door", "handle")
        self.door = door if door in DOORS else "other"
        self.job = job
        self.decision: Decision | None = None
        self.done: Done | None = None
        self.error: MegaCityError | None = None
        self.cancelled = False
        self.first_tokens = self.tokens = 0
        self.started = time.perf_counter()
        self.first = self.last = 0.0
        logs.bind(request_id=job.id, trace_id=logs.trace_id(job.traceparent))
        metrics.IN_FLIGHT.labels(self.door).inc()

    def see(self, event: Event) -> None:
        match event:
            case Routed(decision):
                self._route(decision)
            case Delta() | ToolDelta():
                self._token(event.tokens)
            case Artifact():
                self._token(0)
            case Done():
                self.done = event

    def end(self) -> None:
        """Count the run once, whatever its end was."""
        duration = time.perf_counter() - self.started
        if not self.done and not self.cancelled and not self.error:
            self.error = EngineFailed("the run ended without a last event")
        metrics.IN_FLIGHT.labels(self.door).dec()
        self._count_ending(duration)
        self._count_tokens()
        self._log(duration)

    @property
    def model(self) -> str:
        """A model of the catalogue; what a caller made up is `other`."""
        if self.decision:
            return self.decision.model
        return "auto" if self.job.wish.model == "auto" else "other"

    @property
    def engine(self) -> str:
        return self.decision.engine if self.decision else "none"

    @property
    def status(self) -> str:
        """`ok`, `cancelled` or the code of the error's class, which is one of a fixed set."""
        if self.error:
            return type(self.error).code or "internal_error"
        return "cancelled" if self.cancelled else "ok"

    @property
    def gen_ai(self) -> tuple[str, str, str, str]:
        asked = self.job.wish.model
        request_model = asked if asked in ("auto", self.model) else "other"
        return OPERATIONS.get(self.job.kind, self.job.kind), PROVIDER, request_model, self.model

    def _route(self, decision: Decision) -> None:
        self.decision = decision
        asked = "auto" if self.job.wish.model == "auto" else "model"
        metrics.ROUTES.labels(asked, decision.model, decision.engine, decision.node_class).inc()

    def _token(self, tokens: int) -> None:
        self.last = time.perf_counter()
        self.tokens += tokens
        if not self.first:
            self.first, self.first_tokens = self.last, tokens
            metrics.TTFT.labels(self.job.kind, self.model).observe(self.first - self.started)
            metrics.GEN_AI_TTFT.labels(*self.gen_ai).observe(self.first - self.started)

    def _count_ending(self, duration: float) -> None:
        kind, model = self.job.kind, self.model
        metrics.REQUESTS.labels(self.door, kind, model, self.engine, self.status).inc()
        metrics.GEN_AI_DURATION.labels(*self.gen_ai, "" if self.status == "ok" else self.status).observe(duration)
        if self.error:
            metrics.ERRORS.labels(self.door, self.status).inc()
        elif self.cancelled:
            metrics.CANCELLATIONS.labels(self.door, kind, model).inc()
        else:
            metrics.DURATION.labels(kind, model).observe(duration)
            self._count_pace()

    def _count_pace(self) -> None:
        """Time per token, of single answers: the tokens of several choices are not one after the other."""
        later = self.completion_tokens - self.first_tokens
        if later > 0 and self.done and len(self.done.finish) == 1:
            pace = (self.last - self.first) / later
            metrics.TPOT.labels(self.job.kind, self.model).observe(pace)
            metrics.GEN_AI_TPOT.labels(*self.gen_ai).observe(pace)

    @property
    def prompt_tokens(self) -> int:
        return self.done.usage.prompt_tokens if self.done else 0

    @property
    def completion_tokens(self) -> int:
        """As the engine counted them, or as they came by if it did not get that far."""
        return self.done.usage.completion_tokens if self.done else self.tokens

    def _count_tokens(self) -> None:
        metrics.PROMPT_TOKENS.labels(self.model).inc(self.prompt_tokens)
        metrics.COMPLETION_TOKENS.labels(self.model).inc(self.completion_tokens)
        if self.done:
            metrics.GEN_AI_TOKENS.labels(*self.gen_ai, "input").observe(self.prompt_tokens)
            metrics.GEN_AI_TOKENS.labels(*self.gen_ai, "output").observe(self.completion_tokens)

    def _log(self, duration: float) -> None:
        logs.event(
            "request",
            door=self.door,
            kind=self.job.kind,
            model=self.model,
            engine=self.engine,
            status=self.status,
            ttft_ms=round((self.first - self.started) * 1000, 1) if self.first else None,
            duration_ms=round(duration * 1000, 1),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
        )
