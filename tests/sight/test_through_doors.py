"""What a request leaves behind says which door it came through, and keeps its id on every line."""

import contextlib
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import grpc
import pytest

from serve_app import logs, metrics
from serve_app.api import grpc as grpc_door
from serve_app.api import http
from serve_app.api.proto import megacity_pb2_grpc
from serve_app.api.proto.megacity_pb2 import GenerateRequest
from serve_app.api.service import Service
from serve_app.client import MegaCity
from serve_app.errors import MegaCityError
from serve_app.stages.observe import observe
from tests.api.stub import Stub
from tests.client.conftest import listening


@pytest.fixture
def service() -> Service:
    service = Stub().service()
    return replace(service, run=observe(service.run))


@pytest.fixture
async def lines() -> AsyncGenerator[io.StringIO]:
    sink = io.StringIO()
    with contextlib.redirect_stderr(sink):
        logs.setup("json")
    yield sink
    logs.LOGGER.handlers.clear()


def requests(door: str, status: str = "ok") -> float:
    labels = {"door": door, "kind": "chat", "model": "tutor", "engine": "llm", "status": status}
    return metrics.REGISTRY.get_sample_value("megacity_requests_total", labels) or 0.0


async def test_http(service: Service, lines: io.StringIO) -> None:
    before, cancelled = requests("http"), requests("http", "cancelled")
    async with listening(http.build(service)) as url, MegaCity(url) as city:
        answer = await city.chat("CANARY")
        with contextlib.suppress(MegaCityError):
            await city.chat("bug")
        async with city.stream("hi|hang") as stream:
            await anext(stream)
    assert requests("http") == before + 1
    assert requests("http", "cancelled") == cancelled + 1
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["event"] for line in told if line["request_id"] == answer.request_id] == ["request"]
    assert [line["status"] for line in told if line["event"] == "request"] == ["ok", "engine_failed", "cancelled"]
    assert all(line["door"] == "http" and len(line["trace_id"]) == 32 for line in told)
    assert "CANARY" not in lines.getvalue()
    assert "secret" not in lines.getvalue()


async def test_grpc(service: Service, lines: io.StringIO) -> None:
    before = requests("grpc")
    door = await grpc_door.listen(service, "127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        llm = megacity_pb2_grpc.LLMServiceStub(channel)
        await llm.Generate(GenerateRequest(prompt="CANARY"), metadata=(("x-request-id", "mine"),))
    await door.stop(0)
    assert requests("grpc") == before + 1
    (told,) = map(json.loads, lines.getvalue().splitlines())
    assert (told["request_id"], told["door"], told["status"]) == ("mine", "grpc", "ok")
