"""Give the same answer to the same question without asking an engine again. A hit is told as the engine told it."""

import base64
import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from typing import Any

from serve_app import metrics
from serve_app.policies.caching import CacheRules, key_of, may_keep
from serve_app.services.kv import KV
from serve_app.types import Artifact, Delta, Done, Event, Handler, Job, Part, Routed, Stage, ToolDelta, Usage

WHOLE = frozenset({"stop", "length", "tool_calls"})
LARGEST_ANSWER = 1024 * 1024  # characters of text, bytes of anything else


def cache(kv: KV, rules: CacheRules, secret: bytes, tasks: Iterable[str] = ()) -> Stage:
    """The stage that keeps answers in `kv`, under keys that nobody can make without `secret`."""
    names = {task.casefold(): task for task in tasks}

    def stage(handler: Handler) -> Handler:
        async def run(job: Job) -> AsyncGenerator[Event]:
            key = key_of(job, secret) if may_keep(job, rules) else None
            found = _read(await kv.get(key)) if key else None
            task = names.get((job.wish.task or "").casefold(), "none")
            metrics.CACHE.labels(job.kind, task, "hit" if found else "miss" if key else "bypass").inc()
            if found:
                events = _replayed(job, found)
            elif key:
                events = _kept(job, handler(job), kv, key, rules.ttl_s)
            else:
                events = handler(job)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event

        return run

    return stage


async def _replayed(job: Job, events: list[Event]) -> AsyncGenerator[Event]:
    yield Routed(job.plan[0].decision, "hit", attempts=0)
    for event in events:
        yield event


async def _kept(job: Job, events: AsyncGenerator[Event], kv: KV, key: bytes, ttl_s: int) -> AsyncGenerator[Event]:
    """The events; if they are a whole answer, it is kept before its last event is passed on."""
    record = _Record(job)
    async with contextlib.aclosing(events):
        async for event in events:
            record.see(event)
            if isinstance(event, Done) and record.fits:
                await kv.put(key, record.written(event), ttl_s)
            yield replace(event, cache="miss") if isinstance(event, Routed) else event


class _Record:
    """What came of a run so far, as long as it may be kept."""

    def __init__(self, job: Job) -> None:
        self.fits = True
        self._best = job.plan[0].decision
        self._size = 0
        self._events: list[list[Any] | dict[str, Any]] = []

    def see(self, event: Event) -> None:
        """An answer of another model than the key names is not kept, nor is what is too long or cut."""
        match event:
            case Routed(decision):
                self._events.clear()
                self._size = 0
                self.fits = (decision.model, decision.version) == (self._best.model, self._best.version)
            case Delta(text, index, tokens):
                self._keep(len(text), [text, index, tokens])
            case ToolDelta(arguments):
                self._keep(len(arguments), {"call": dataclasses.astuple(event)})
            case Artifact(name, media_type, data):
                self._keep(len(data), {"name": name, "media_type": media_type, "data": base64.b64encode(data).decode()})
            case Done(_, finish, estimated):
                self._require(WHOLE.issuperset(finish) and not estimated)

    def written(self, done: Done) -> bytes:
        document = {"events": self._events, "usage": dataclasses.asdict(done.usage), "finish": done.finish}
        return json.dumps(document, separators=(",", ":")).encode()

    def _keep(self, size: int, written: list[Any] | dict[str, Any]) -> None:
        self._size += size
        self._require(self._size <= LARGEST_ANSWER)
        if self.fits:
            self._events.append(written)

    def _require(self, fits: bool) -> None:
        self.fits = self.fits and fits
        if not self.fits:
            self._events.clear()


def _read(kept: bytes | None) -> list[Event] | None:
    """The events of a kept answer. What another version of this service has written may not be readable."""
    try:
        document = json.loads(kept or b"null")
        told = [_event(written) for written in document["events"]]
        return [*told, Done(_usage(document["usage"]), tuple(document["finish"]))]
    except (ValueError, TypeError, KeyError):
        return None


def _usage(written: dict[str, Any]) -> Usage:
    parts = tuple(Part(part["engine"], _usage(part["usage"])) for part in written["parts"])
    return Usage(**{**written, "parts": parts})


def _event(written: Any) -> Event:
    if isinstance(written, dict) and "call" in written:
        return ToolDelta(*written["call"])
    if isinstance(written, dict):
        return Artifact(written["name"], written["media_type"], base64.b64decode(written["data"]))
    text, index, tokens = written
    return Delta(text, index, tokens)
