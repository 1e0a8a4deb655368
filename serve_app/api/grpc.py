"""The gRPC door: `megacity.v1.LLMService` with the standard health and reflection services beside it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from serve_app import logs
from serve_app.api import calls, envelope
from serve_app.api.calls import Call
from serve_app.api.proto import megacity_pb2, megacity_pb2_grpc
from serve_app.api.proto.megacity_pb2 import GenerateRequest, GenerateResponse
from serve_app.api.responses import header_text
from serve_app.api.service import Service
from serve_app.errors import BadRequest, EngineFailed, MegaCityError
from serve_app.policies.limits import RANGES, Limits
from serve_app.policies.pricing import usd
from serve_app.policies.routing import route_header
from serve_app.types import (
    Chat,
    Constraints,
    Delta,
    Done,
    Job,
    Kind,
    Message,
    Priority,
    Routed,
    Sampling,
    Wish,
)

LLM_SERVICE = megacity_pb2.DESCRIPTOR.services_by_name["LLMService"].full_name
SERVICES = (LLM_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)

CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
PRIORITIES = {
    GenerateRequest.PREMIUM: Priority.PREMIUM,
    GenerateRequest.STANDARD: Priority.STANDARD,
    GenerateRequest.BATCH: Priority.BATCH,
}
MAX_TEMPERATURE = RANGES["temperature"].most
LONGEST_USER_ID = int(RANGES["user_id"].most)
ROOM_FOR_THE_REST = 64 * 1024  # bytes of a message beside its prompt, so that a long prompt is refused by name
HEALTH_PERIOD_S = 1.0


async def listen(service: Service, host: str, port: int) -> "Door":
    """A door that answers at this address, on a port that other replicas may share; raises `OSError` if it is taken."""
    door = Door(service)
    await door.open(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return door


class Door:
    """A running gRPC server."""

    def __init__(self, service: Service) -> None:
        self.server = grpc.aio.server(options=_options(service.limits))
        self.health = Health(service)
        self.port = 0
        megacity_pb2_grpc.add_LLMServiceServicer_to_server(LLM(service), self.server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        reflection.enable_server_reflection(SERVICES, self.server)

    async def open(self, address: str) -> None:
        try:
            self.port = self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}; is the port taken?") from error
        await self.server.start()

    async def stop(self, grace_s: float) -> None:
        """Accept nothing new, wait up to `grace_s` seconds for what is in flight, then cut it."""
        self.health.leaving.set()
        await self.server.stop(grace_s)


class LLM:
    """Translates `megacity.v1.LLMService` to jobs, and events to its messages."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def Generate(self, request: GenerateRequest, context: Any) -> GenerateResponse:
        texts: list[str] = []
        last = GenerateResponse()
        async with contextlib.aclosing(self.GenerateStream(request, context)) as pieces:
            async for last in pieces:
                texts.append(last.text)
        last.text = "".join(texts)
        return last

    async def GenerateStream(self, request: GenerateRequest, context: Any) -> AsyncGenerator[GenerateResponse]:
        started = time.perf_counter()
        call = _call(context)
        async with _errors_told(call, context):
            access = self.service.access
            call = replace(call, caller=await access.caller(call.authorization))
            run = self.service.run(_job(request, call, context, self.service.limits))
            tokens, done = 0, None
            async with contextlib.aclosing(run) as events:
                async for event in events:
                    latency_ms = (time.perf_counter() - started) * 1000
                    match event:
                        case Routed():
                            head = (*_answerer(call, event), *access.rates.headers(call.caller).items())
                            await context.send_initial_metadata(head)
                        case Delta(text):
                            tokens += event.tokens
                            yield GenerateResponse(text=text, tokens_generated=tokens, latency_ms=latency_ms)
                        case Done():
                            done = event
            if done is not None:
                context.set_trailing_metadata((("x-megacity-cost-usd", usd(done.usage.cost_nano_usd)),))
            yield _totals(done, started)


class Health:
    """`grpc.health.v1.Health`: serving as long as any engine can answer or wake up."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.leaving = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, _: health_pb2.HealthListRequest, __: Any) -> health_pb2.HealthListResponse:
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in ("", *SERVICES)}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, _: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        said = None
        while not self.leaving.is_set():
            if (status := self._status(request.service)) != said:
                yield health_pb2.HealthCheckResponse(status=status)
            said = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), HEALTH_PERIOD_S)
        yield health_pb2.HealthCheckResponse(status=self._status(request.service))

    def _status(self, name: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if name and name not in SERVICES:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        able = any(state != "broken" for state in self.service.health().values())
        serving = able and not self.leaving.is_set()
        return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.max_body_bytes + ROOM_FOR_THE_REST),
        ("grpc.max_concurrent_streams", int(RANGES["streams"].most)),
        ("grpc.keepalive_time_ms", 30_000),  # a caller that vanished without a word is noticed, and its run stopped
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _call(context: Any) -> Call:
    """Who calls: gRPC metadata are HTTP headers, so they are read as such."""
    metadata = context.invocation_metadata() or ()
    headers = [(name.encode(), value.encode()) for name, value in metadata if isinstance(value, str)]
    call = calls.read({"type": "http", "headers": headers})
    logs.bind(door="grpc", request_id=call.id, trace_id=logs.trace_id(call.traceparent))
    return call


def _job(request: GenerateRequest, call: Call, context: Any, limits: Limits) -> Job:
    _check(request, limits)
    remaining_s = context.time_remaining()
    return Job(
        id=call.id,
        kind=Kind.CHAT,
        payload=Chat((Message("user", request.prompt),), _sampling(request)),
        caller=call.caller_for(request.user_id),
        wish=Wish(no_store=call.no_store),
        constraints=Constraints(
            priority=max(call.caller.tier, PRIORITIES.get(request.priority, call.caller.tier)),
            deadline=None if remaining_s is None else time.time() + remaining_s,
        ),
        traceparent=call.traceparent,
    )


def _check(request: GenerateRequest, limits: Limits) -> None:
    """Refuse what cannot be meant; raises `BadRequest` with the field's name."""
    if not request.prompt:
        raise BadRequest("'prompt' is required.", param="prompt")
    if len(request.prompt.encode()) > limits.max_body_bytes:
        raise BadRequest(f"'prompt' should be at most {limits.max_body_bytes} bytes.", param="prompt")
    if len(request.user_id) > LONGEST_USER_ID:
        raise BadRequest(f"'user_id' should be at most {LONGEST_USER_ID} characters.", param="user_id")
    if request.HasField("max_tokens") and not 1 <= request.max_tokens <= limits.max_output_tokens:
        raise BadRequest(f"'max_tokens' should be from 1 to {limits.max_output_tokens}.", param="max_tokens")
    if request.HasField("temperature") and not 0 <= request.temperature <= MAX_TEMPERATURE:  # not a number: refused too
        raise BadRequest(f"'temperature' should be from 0 to {MAX_TEMPERATURE:g}.", param="temperature")
    if request.priority not in GenerateRequest.Priority.values():
        raise BadRequest("'priority' should be PREMIUM, STANDARD or BATCH.", param="priority")


def _sampling(request: GenerateRequest) -> Sampling:
    return Sampling(
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
        temperature=request.temperature if request.HasField("temperature") else None,
    )


def _answerer(call: Call, routed: Routed) -> tuple[tuple[str, str], ...]:
    decision = routed.decision
    return (
        ("x-request-id", call.id),
        ("x-megacity-model", header_text(f"{decision.model}@{decision.version}")),
        ("x-megacity-route", header_text(route_header(decision))),
        ("x-megacity-cache", routed.cache),
    )


def _totals(done: Done | None, started: float) -> GenerateResponse:
    if done is None:
        raise EngineFailed("The engine stopped before its answer was complete. Please try again.")
    return GenerateResponse(
        tokens_generated=done.usage.completion_tokens,
        latency_ms=(time.perf_counter() - started) * 1000,
        finish_reason=done.finish[0],
    )


@contextlib.asynccontextmanager
async def _errors_told(call: Call, context: Any) -> AsyncIterator[None]:
    """End the call with the status of whatever error comes out of this block."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the last line: gRPC would send and log the text of whatever it is
        problem = envelope.presentable(error, call.id)
        await context.abort(
            CODES.get(problem.status, grpc.StatusCode.INTERNAL), problem.message, _trailer(call, problem)
        )


def _trailer(call: Call, problem: MegaCityError) -> tuple[tuple[str, str], ...]:
    trailer = (("x-request-id", call.id), ("megacity-code", problem.code or ""))
    return trailer if problem.retry_after_s is None else (*trailer, ("retry-after", str(problem.retry_after_s)))
