"""The way over a deployment handle, for applications and drivers of the same Ray cluster."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from serve_app.client.files import Held
from serve_app.client.way import Answerer, Found, Run
from serve_app.errors import EngineFailed, MegaCityError, QueueFull, Unavailable
from serve_app.policies.access import collection_of
from serve_app.policies.routing import route_header
from serve_app.services.spool import Spool
from serve_app.types import Artifact, Decision, Delta, Documents, Done, Event, Job, Media, Retrieval, Routed

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from serve_app.parcels import Parcel


class Handle:
    """What comes over a handle are batches, and errors are items of them, not raised ones."""

    def __init__(self, handle: "DeploymentHandle") -> None:
        self._handle = handle
        self._spool = Spool()

    async def run(self, job: Job) -> Run:
        with _cluster_errors():
            async with contextlib.aclosing(self._events("run", job)) as events:
                async for event in events:
                    match event:
                        case Routed(decision):
                            yield _answerer(decision)
                        case Delta() | Done():
                            yield event

    async def ask(self, job: Job) -> Found:
        collected = _Collected()
        with _cluster_errors():
            sent = await self._packed(replace(_scoped(job), wish=replace(job.wish, whole=True)))
            method = "run" if isinstance(sent, Job) else "receive"
            async with contextlib.aclosing(self._events(method, sent)) as events:
                async for event in events:
                    collected.take(event)
        return collected.found()

    async def _events(self, method: str, sent: "Job | Parcel") -> AsyncGenerator[Event]:
        batches = self._handle.options(stream=True, method_name=method).remote(sent)
        try:
            async for batch in batches:
                for item in batch:
                    if isinstance(item, MegaCityError):
                        raise item
                    yield item
        finally:
            batches.cancel()

    async def _packed(self, job: Job) -> "Job | Parcel":
        """The job as it is or, if it has files, with them: those in memory go by way of this process's spool."""
        from serve_app.parcels import files_of, packed, with_files

        files = list(files_of(job.payload))
        if not files:
            return job
        with contextlib.ExitStack() as stack:
            moved = {file.path: await self._on_disk(file, stack) for file in files}
            return await packed(replace(job, payload=with_files(job.payload, moved)))

    async def _on_disk(self, file: Media, stack: contextlib.ExitStack) -> Media:
        if not isinstance(file, Held):
            return file
        here = self._spool.file()
        stack.callback(here.remove)
        await here.write(file.data)
        return here.media(file.media_type)

    async def decide(self, job: Job) -> Decision:
        with _cluster_errors():
            decision: Decision = await self._handle.options(method_name="decide").remote(job)
        return decision

    async def models(self) -> list[str]:
        with _cluster_errors():
            names: list[str] = await self._handle.options(method_name="models").remote()
        return names

    async def aclose(self) -> None:
        await asyncio.to_thread(self._spool.close)


@dataclass
class _Collected:
    """The events of one run."""

    who: Answerer | None = None
    texts: list[str] = field(default_factory=list)
    pieces: dict[str, list[bytes]] = field(default_factory=dict)
    json: set[str] = field(default_factory=set)
    done: Done | None = None

    def take(self, event: Event) -> None:
        match event:
            case Routed(decision):  # a second one means that the run has started anew
                self.who = _answerer(decision)
                self.texts, self.pieces = [], {}
            case Delta(text):
                self.texts.append(text)
            case Artifact(name, media_type, data):
                self.pieces.setdefault(name, []).append(data)
                if media_type == "application/json":
                    self.json.add(name)
            case Done():
                self.done = event

    def found(self) -> Found:
        if self.who is None or self.done is None:
            raise EngineFailed("The answer ended before it was complete.")
        whole = {name: b"".join(pieces) for name, pieces in self.pieces.items()}
        artifacts = {name: json.loads(data) if name in self.json else data for name, data in whole.items()}
        return Found(self.who, "".join(self.texts).strip(), artifacts, self.done.usage)


def _answerer(decision: Decision) -> Answerer:
    return Answerer(decision.model, decision.version, route_header(decision))


def _scoped(job: Job) -> Job:
    """The doors keep the tenants' collections apart; over a handle there is none in between."""
    if isinstance(job.payload, Documents | Retrieval):
        name = collection_of(job.caller.tenant, job.payload.collection)
        return replace(job, payload=replace(job.payload, collection=name))
    return job


def app_handle(app: str) -> "DeploymentHandle":
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_app_handle(app)
    except RayServeException as error:
        raise Unavailable(f"This Ray cluster has no Serve application '{app}'. Is the service running?") from error


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    """Errors of ours as they were raised; Ray's as the nearest of ours."""
    from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

    try:
        yield
    except (RequestCancelledError, TaskCancelledError) as error:
        raise asyncio.CancelledError from error
    except BackPressureError as error:
        raise QueueFull("The service has no room for another request. Please try again.") from error
    except (RayActorError, DeploymentUnavailableError) as error:
        raise Unavailable("The service was lost. Please try again.") from error
    except RayTaskError as error:
        if isinstance(error.cause, MegaCityError):
            raise error.cause from None
        raise EngineFailed("The service failed while answering.") from error
    except RayError as error:
        raise Unavailable("The service could not be reached. Please try again.") from error
