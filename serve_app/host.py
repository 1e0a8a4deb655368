"""The one Serve deployment class that hosts any engine, and the way to it from another process.

What crosses to the other process is a batch of events (`batches.py`). An error is an item of the batch like any other,
so that it arrives as itself and not as a cluster's stack trace.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
    RpcError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle

from serve_app import logs, metrics
from serve_app.batches import in_batches
from serve_app.config import ON_PREM, RENTED, EngineEntry
from serve_app.engine import Engine
from serve_app.errors import EngineFailed, Lost, MegaCityError, QueueFull, Unavailable
from serve_app.lines import Batch, FilesWanted, Lease, Lines, Listener
from serve_app.parcels import Parcel, files_of, packed, unpacked
from serve_app.room import Room
from serve_app.services.gpus import limited
from serve_app.services.spool import Spool
from serve_app.types import Done, Event, Handler, Job, Part

STATE_PERIOD_S = 1.0
LOST = (  # a replica, its process or its node is gone, or what it has sent went with it
    RayActorError,
    WorkerCrashedError,
    NodeDiedError,
    ObjectLostError,
    RpcError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    ConnectionError,  # of a line
)


class Host:
    """Runs one engine: loads it, keeps its slots, and hands its events on in batches."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, name: str, entry: dict[str, Any], needs: Mapping[str, DeploymentHandle]
    ) -> None:
        config = EngineEntry.model_validate(entry)
        logs.setup()
        self.room = Room(name, config.slots, config.waiting)
        handlers = {role: _counted(config.needs[role], carrier(role, handle)) for role, handle in needs.items()}
        options = await asyncio.to_thread(limited, config.engine_options(), config.resources.gpu)
        self.engine = config.engine_class()(options, handlers, config.slots)
        await self.engine.load()
        self.state = asyncio.create_task(show_state(name, self.engine))
        self.spool = Spool()
        self.listener = Listener(self.run)
        await self.listener.open()

    async def line(self, job: Job, node: str) -> AsyncGenerator[Batch | Lease | FilesWanted]:
        """To a caller on this node a lease, over which it sends this job and others; to all others as `run`, unless
        the job has files, which are on the caller's node."""
        if node == ray.get_runtime_context().get_node_id():
            answers: AsyncGenerator[Batch | Lease] = self.listener.lease()
        elif any(files_of(job.payload)):
            yield FilesWanted()
            return
        else:
            answers = self.run(job)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer

    async def receive(self, parcel: Parcel) -> AsyncGenerator[Batch]:
        """As `run`, for a job whose files come along."""
        try:
            async with unpacked(parcel, self.spool) as job, contextlib.aclosing(self.run(job)) as batches:
                async for batch in batches:
                    yield batch
        except MegaCityError as refusal:
            yield [refusal]

    async def run(self, job: Job) -> AsyncGenerator[Batch]:
        """Answer one job in batches of events; the last batch ends with a `Done` or an error."""
        logs.bind(request_id=job.id, trace_id=logs.trace_id(job.traceparent))
        try:
            async with self.room.slot(job), contextlib.aclosing(in_batches(self._timed(job))) as batches:
                async for batch in batches:
                    yield batch
        except MegaCityError as refusal:
            yield [refusal]

    async def awake(self) -> None:
        """Being asked is enough: a replica is started for it if there is none."""

    async def _timed(self, job: Job) -> AsyncGenerator[Event]:
        """The engine's events, and with the last of them what it used: its own time, and what it had others do."""
        started = time.perf_counter()
        parts: list[Part] = []
        _parts.set(parts)
        async with contextlib.aclosing(self.engine.run(job)) as events:
            async for event in events:
                if isinstance(event, Done):
                    own_s = event.usage.engine_s or time.perf_counter() - started
                    event = replace(event, usage=replace(event.usage, engine_s=own_s).with_parts(parts))
                yield event

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the fleet policy asks of every replica: its slots, its room, and where it runs."""
        pool = ray.get_runtime_context().get_node_labels().get("pool", ON_PREM)
        return {
            "running": float(self.room.busy),
            "queued": float(len(self.room.waiters)),
            "came": float(self.room.came),
            "oldest_wait_s": self.room.oldest_wait_s(),
            "pool": float(RENTED.index(pool) + 1 if pool in RENTED else 0),
        }

    async def check_health(self) -> None:
        await self.engine.check()

    async def __del__(self) -> None:
        if hasattr(self, "state"):
            self.state.cancel()
        if hasattr(self, "listener"):
            self.listener.close()
            self.spool.close()
        if hasattr(self, "engine"):
            await self.engine.close()


async def show_state(name: str, engine: Engine) -> None:
    """Keep the metrics true to what the engine says of itself, for ever, or not at all if it says nothing."""
    while state := engine.gauges():
        for what, value in state.items():
            metrics.ENGINE_STATE.labels(name, what).set(value)
        await asyncio.sleep(STATE_PERIOD_S)


_parts: ContextVar[list[Part]] = ContextVar("parts")
"""What the engines that the present run calls have used. Every run is pumped by a task, and so has a context, of its
own; the tasks that it starts see the same list."""


def _counted(engine: str, handler: Handler) -> Handler:
    """The handler of an engine that a run may call, with what it uses put down to the run."""

    async def run(job: Job) -> AsyncGenerator[Event]:
        async with contextlib.aclosing(handler(job)) as events:
            async for event in events:
                if isinstance(event, Done):
                    _parts.get().append(Part(engine, event.usage))
                yield event

    return run


def carrier(engine: str, handle: DeploymentHandle) -> Handler:
    """A handler whose events come from another deployment, over a Serve handle."""
    call = handle.options(method_name="line", stream=True).remote
    receive = handle.options(method_name="receive", stream=True).remote
    lines = Lines(call, ray.get_runtime_context().get_node_id(), partial(_sent, receive))

    async def run(job: Job) -> AsyncGenerator[Event]:
        try:
            async with contextlib.aclosing(lines.run(job)) as batches:
                async for batch in batches:
                    for item in batch:
                        if isinstance(item, MegaCityError):
                            raise item
                        yield item
        except (asyncio.CancelledError, RequestCancelledError, TaskCancelledError) as error:
            if _cancelled_here():
                raise asyncio.CancelledError from error
            raise Unavailable(f"engine {engine} dropped the request; try again") from error
        except BackPressureError as error:
            raise QueueFull(f"engine {engine} has no room for another request; try again shortly") from error
        except LOST as error:
            raise Lost(f"engine {engine} was lost; try again") from error
        except RayError as error:
            logs.fault("carrier_failed", error)
            raise EngineFailed(f"engine {engine} could not be reached; try again") from error

    return run


async def _sent(receive: Callable[[Parcel], Any], job: Job) -> AsyncGenerator[Batch]:
    """A job's batches from an engine on another node, which gets its files first."""
    parcel = await packed(job)
    batches = receive(parcel)
    try:
        async for batch in batches:
            yield batch
    finally:
        batches.cancel()


def _cancelled_here() -> bool:
    """Whether it was this process that gave up, and not the other side."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def waker(hosts: Mapping[str, DeploymentHandle]) -> Callable[[str], None]:
    """A function that has a sleeping engine started: it waits for nothing, and asks once at a time per engine."""
    asked: dict[str, asyncio.Task[None]] = {}

    async def ask(engine: str) -> None:
        try:
            await hosts[engine].options(method_name="awake").remote()
        except (RayError, RayServeException) as error:  # the next request asks again
            logs.fault("wake_failed", error)
        finally:
            del asked[engine]

    def wake(engine: str) -> None:
        if engine not in asked:
            asked[engine] = asyncio.create_task(ask(engine))

    return wake
