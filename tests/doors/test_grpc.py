"""The gRPC door over a real server and a real client in one process."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serve_app import errors
from serve_app.api import grpc as door
from serve_app.api.proto import megacity_pb2_grpc
from serve_app.api.proto.megacity_pb2 import GenerateRequest
from serve_app.api.service import Service
from serve_app.policies.limits import Limits
from serve_app.policies.routing import Health, Router
from serve_app.types import Decision, Delta, Done, Event, Handler, Job, Kind, Priority, Routed, Usage
from tests.api.stub import OPEN

ROUTED = Routed(Decision("tutor", "nano", "3", "onprem", reasons=("zone math", "짧은 이유")))
ANSWER: list[Event] = [ROUTED, Delta("x = ", tokens=2), Delta("4 맞아요", tokens=3), Done(Usage(4, 6), ("length",))]


class Engine:
    """Plays a script, and remembers the jobs and whether each was closed."""

    def __init__(self, *script: Event | BaseException, hang: bool = False) -> None:
        self.script = script
        self.hang = hang
        self.jobs: list[Job] = []
        self.started, self.closed = asyncio.Event(), asyncio.Event()

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self.jobs.append(job)
        try:
            for item in self.script:
                if isinstance(item, BaseException):
                    raise item
                yield item
            self.started.set()
            if self.hang:
                await asyncio.sleep(60)
        finally:
            self.closed.set()


@contextlib.asynccontextmanager
async def opened(
    run: Handler, health: Callable[[], dict[str, Health]] = lambda: {"tutor": "ready"}, limits: Limits | None = None
) -> AsyncIterator[tuple[Any, grpc.aio.Channel, door.Door]]:
    service = Service(run, cast(Router, None), health, limits or Limits(), access=OPEN)
    server = await door.listen(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield megacity_pb2_grpc.LLMServiceStub(channel), channel, server
    await server.stop(0)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    async def outcome() -> object:
        return [piece async for piece in call] if hasattr(call, "__aiter__") else await call

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await outcome()
    return caught.value


async def test_generate() -> None:
    engine = Engine(*ANSWER)
    async with opened(engine.run) as (llm, _, _):
        metadata = (("x-request-id", "my-id-1"), ("authorization", "Bearer sk-local-standard"))
        call = llm.Generate(GenerateRequest(prompt="2 + 2", user_id="u-7"), metadata=metadata, timeout=5)
        answer = await call
        head, trailer = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    assert (answer.text, answer.tokens_generated, answer.finish_reason) == ("x = 4 맞아요", 6, "length")
    assert 0 < answer.latency_ms < 5000
    assert head["x-request-id"] == "my-id-1"
    assert head["x-megacity-model"] == "nano@3"
    assert head["x-megacity-route"].isascii()
    assert trailer["x-megacity-cost-usd"] == "0.000000000"
    (job,) = engine.jobs
    assert (job.id, job.kind, job.payload.text, job.caller.user) == ("my-id-1", Kind.CHAT, "2 + 2", "u-7")
    assert (job.payload.sampling.max_tokens, job.payload.sampling.temperature) == (None, None)
    assert job.constraints.deadline
    assert 3 < job.constraints.deadline - time.time() < 6  # gRPC rounds what goes over the wire up
    assert engine.closed.is_set()


async def test_generate_stream_ends_with_the_totals() -> None:
    async with opened(Engine(*ANSWER).run) as (llm, _, _):
        pieces = [piece async for piece in llm.GenerateStream(GenerateRequest(prompt="2 + 2"))]
    assert [piece.text for piece in pieces] == ["x = ", "4 맞아요", ""]
    assert [piece.tokens_generated for piece in pieces] == [2, 5, 6]
    assert [piece.finish_reason for piece in pieces] == ["", "", "length"]
    assert [piece.latency_ms for piece in pieces] == sorted(piece.latency_ms for piece in pieces)


async def test_zero_is_not_the_same_as_left_out() -> None:
    engine = Engine(*ANSWER)
    async with opened(engine.run) as (llm, _, _):
        await llm.Generate(GenerateRequest(prompt="hi", temperature=0.0, max_tokens=5))
    assert engine.jobs[0].payload.sampling.temperature == 0.0
    assert engine.jobs[0].payload.sampling.max_tokens == 5
    assert engine.jobs[0].constraints.deadline is None


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("UNSPECIFIED", Priority.STANDARD),
        ("PREMIUM", Priority.STANDARD),
        ("STANDARD", Priority.STANDARD),
        ("BATCH", Priority.BATCH),
    ],
)
async def test_a_request_can_only_lower_its_priority(asked: str, given: Priority) -> None:
    engine = Engine(*ANSWER)
    async with opened(engine.run) as (llm, _, _):
        await llm.Generate(GenerateRequest(prompt="hi", priority=asked))
    assert engine.jobs[0].constraints.priority == given


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (GenerateRequest(), "prompt"),
        (GenerateRequest(prompt="한" * 400), "prompt"),
        (GenerateRequest(prompt="hi", user_id="u" * 600), "user_id"),
        (GenerateRequest(prompt="hi", max_tokens=0), "max_tokens"),
        (GenerateRequest(prompt="hi", max_tokens=-1), "max_tokens"),
        (GenerateRequest(prompt="hi", max_tokens=101), "max_tokens"),
        (GenerateRequest(prompt="hi", temperature=float("nan")), "temperature"),
        (GenerateRequest(prompt="hi", temperature=float("inf")), "temperature"),
        (GenerateRequest(prompt="hi", temperature=-0.1), "temperature"),
        (GenerateRequest(prompt="hi", priority=9), "priority"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_name(request_: GenerateRequest, field: str) -> None:
    engine = Engine(*ANSWER)
    async with opened(engine.run, limits=Limits(max_body_bytes=1000, max_output_tokens=100)) as (llm, _, _):
        for call in (llm.Generate(request_), llm.GenerateStream(request_)):
            error = await refusal(call)
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert f"'{field}'" in error.details()
    assert not engine.jobs


async def test_a_message_beyond_the_limit_never_gets_in() -> None:
    async with opened(Engine(*ANSWER).run, limits=Limits(max_body_bytes=1000)) as (llm, _, _):
        error = await refusal(llm.Generate(GenerateRequest(prompt="x" * 100_000)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.BadRequest("no"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.Unauthorized("no"), grpc.StatusCode.UNAUTHENTICATED),
        (errors.Forbidden("no"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.ModelNotFound("no"), grpc.StatusCode.NOT_FOUND),
        (errors.QueueFull("no"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unavailable("no"), grpc.StatusCode.UNAVAILABLE),
        (errors.DeadlineExceeded("no"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.EngineFailed("no"), grpc.StatusCode.INTERNAL),
    ],
)
@pytest.mark.parametrize("before", [[], [ROUTED, Delta("half")]])
async def test_every_error_has_its_status_and_says_who(
    raised: errors.MegaCityError, code: grpc.StatusCode, before: list[Event]
) -> None:
    async with opened(Engine(*before, raised).run) as (llm, _, _):
        metadata = (("x-request-id", "my-id-2"),)
        for method in (llm.Generate, llm.GenerateStream):
            error = await refusal(method(GenerateRequest(prompt="hi"), metadata=metadata))
            trailer = dict(error.trailing_metadata())
            assert (error.code(), error.details()) == (code, "no")
            assert (trailer["x-request-id"], trailer["megacity-code"]) == ("my-id-2", raised.code)
            assert trailer.get("retry-after") == (str(raised.retry_after_s) if raised.retry_after_s else None)


async def test_an_unknown_fault_keeps_its_text_to_itself(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(Engine(ROUTED, ValueError("CANARY")).run) as (llm, _, _):
        error = await refusal(llm.Generate(GenerateRequest(prompt="hi")))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "CANARY" not in str(error.details()) + caplog.text + "".join(capfd.readouterr())


async def test_a_stream_that_just_stops_is_no_answer() -> None:
    async with opened(Engine(ROUTED, Delta("half")).run) as (llm, _, _):
        error = await refusal(llm.GenerateStream(GenerateRequest(prompt="hi")))
    assert dict(error.trailing_metadata())["megacity-code"] == "engine_failed"


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_cancelling_stops_the_engine(method: str) -> None:
    engine = Engine(ROUTED, Delta("one"), hang=True)
    async with opened(engine.run) as (llm, _, _):
        call = getattr(llm, method)(GenerateRequest(prompt="hi"))
        await asyncio.wait_for(engine.started.wait(), 5)
        call.cancel()
        await asyncio.wait_for(engine.closed.wait(), 1)


async def test_the_callers_deadline_stops_the_engine() -> None:
    engine = Engine(ROUTED, hang=True)
    async with opened(engine.run) as (llm, _, _):
        error = await refusal(llm.Generate(GenerateRequest(prompt="hi"), timeout=0.2))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(engine.closed.wait(), 1)


async def test_a_malformed_request_id_is_replaced() -> None:
    engine = Engine(*ANSWER)
    async with opened(engine.run) as (llm, _, _):
        await llm.Generate(GenerateRequest(prompt="hi"), metadata=(("x-request-id", "spaces and; more"),))
    assert " " not in engine.jobs[0].id


async def test_health_follows_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HEALTH_PERIOD_S", 0.01)
    state: dict[str, Health] = {"tutor": "ready", "image": "broken"}
    asked = health_pb2.HealthCheckRequest(service="megacity.v1.LLMService")
    serving, not_serving = (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
    async with opened(Engine().run, lambda: state) as (_, channel, server):
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == serving
        listed = (await health.List(health_pb2.HealthListRequest())).statuses
        assert listed["megacity.v1.LLMService"].status == serving
        watch = health.Watch(asked)
        assert (await watch.read()).status == serving
        state["tutor"] = "broken"
        assert (await watch.read()).status == not_serving
        state["tutor"] = "waking"
        assert (await watch.read()).status == serving
        stopped = asyncio.create_task(server.stop(30))
        assert (await watch.read()).status == not_serving
        await asyncio.wait_for(stopped, 2)  # a watcher doesn't hold the door open


async def test_health_of_an_unknown_service() -> None:
    unknown = health_pb2.HealthCheckRequest(service="nobody")
    async with opened(Engine().run) as (_, channel, _):
        health = health_pb2_grpc.HealthStub(channel)
        assert (await refusal(health.Check(unknown))).code() == grpc.StatusCode.NOT_FOUND
        watch = health.Watch(unknown)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_reflection_describes_the_service() -> None:
    def described(address: str) -> tuple[set[str], list[str]]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            service = DescriptorPool(database).FindServiceByName("megacity.v1.LLMService")
            return set(database.get_services()), [method.name for method in service.methods]

    async with opened(Engine().run) as (_, _, server):
        services, methods = await asyncio.to_thread(described, f"127.0.0.1:{server.port}")
    assert services == {"megacity.v1.LLMService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert methods == ["Generate", "GenerateStream"]


async def test_draining_finishes_what_is_in_flight() -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def slow(_: Job) -> AsyncGenerator[Event]:
        started.set()
        await gate.wait()
        yield Done()

    async with opened(slow) as (llm, _, server):
        answered = asyncio.ensure_future(llm.Generate(GenerateRequest(prompt="hi")))
        await asyncio.wait_for(started.wait(), 5)
        stopped = asyncio.create_task(server.stop(5))
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(answered, stopped)


async def test_a_taken_port_is_an_os_error() -> None:
    with pytest.raises(OSError, match="listen"):
        await door.listen(Service(Engine().run, cast(Router, None), dict, access=OPEN), "203.0.113.1", 9)
