"""The listening side: shared ports, errors of the wire itself, and a drain."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from serve_app.api.server import Doors
from serve_app.api.service import Service
from serve_app.profile import load_profile
from serve_app.types import Delta, Done, Event, Job, Routed
from tests.api.stub import OPEN
from tests.cluster.conftest import free_ports

Ports = tuple[int, int]


def service(pause_s: float = 0.0) -> Service:
    settings = load_profile("embedded").settings
    router = settings.router()

    async def run(job: Job) -> AsyncIterator[Event]:
        yield Routed(router.decide(job, {})[0].decision)
        for _ in range(5):
            await asyncio.sleep(pause_s)
            yield Delta("word ")
        yield Done()

    return Service(run, router, lambda: {"tutor": "ready"}, access=OPEN)  # type: ignore[arg-type]


@pytest.fixture
def ports() -> Ports:
    first, second = free_ports(2)
    return first, second


@contextlib.asynccontextmanager
async def opened(ports: Ports, pause_s: float = 0.0) -> AsyncIterator[Doors]:
    doors = Doors(service(pause_s), ("127.0.0.1", ports[0]), ("127.0.0.1", ports[1]))
    await doors.open()
    await asyncio.sleep(0.1)
    try:
        yield doors
    finally:
        await doors.close(1.0)


async def test_what_is_not_http_is_answered_in_the_envelope(ports: Ports) -> None:
    async with opened(ports):
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(b"NOT HTTP AT ALL\r\n\r\n")
        head, body = (await reader.read()).split(b"\r\n\r\n", 1)
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "malformed_http"


async def test_replicas_share_a_port_and_one_is_enough(ports: Ports) -> None:
    url = f"http://127.0.0.1:{ports[0]}/healthz"
    async with opened(ports):
        async with opened(ports), httpx.AsyncClient() as client:
            assert (await client.get(url)).status_code == 200
        async with httpx.AsyncClient() as client:
            for _ in range(10):
                assert (await client.get(url, headers={"connection": "close"})).status_code == 200


async def test_closing_waits_for_what_is_in_flight(ports: Ports) -> None:
    async with opened(ports, pause_s=0.1) as doors, httpx.AsyncClient() as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        asking = asyncio.create_task(client.post(f"http://127.0.0.1:{ports[0]}/v1/chat/completions", json=body))
        await asyncio.sleep(0.2)
        await doors.close(5.0)
        assert (await asking).json()["choices"][0]["message"]["content"] == "word " * 5
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{ports[0]}/healthz")


async def test_metrics_are_on_the_same_port(ports: Ports) -> None:
    async with opened(ports), httpx.AsyncClient() as client:
        page = await client.get(f"http://127.0.0.1:{ports[0]}/metrics")
    assert "megacity_requests_total" in page.text
    assert page.headers["content-type"].startswith("text/plain")
