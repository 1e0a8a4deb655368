"""What an HTTP client sees of the cache."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from serve_app.api import http
from serve_app.api.service import Service
from serve_app.pipeline import compose
from serve_app.policies.caching import CacheRules
from serve_app.services.kv import Memory
from serve_app.stages.cache import cache
from serve_app.stages.plan import plan
from tests.api.stub import OPEN, Stub
from tests.cache.conftest import SECRET


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
async def client(stub: Stub) -> AsyncIterator[httpx.AsyncClient]:
    stages = [
        plan(lambda job: stub.router.decide(job, stub.states)),
        cache(Memory(10**6), CacheRules(), SECRET),
    ]
    service = Service(compose(stages, stub.run), stub.router, lambda: stub.states, stub.limits, access=OPEN)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(http.build(service), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            yield client
        server.should_exit = server.force_exit = True
        await serving


async def ask(
    client: httpx.AsyncClient, text: str = "hello", headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}
    sent = {"x-request-id": "one", **(headers or {})}
    return await client.post("/v1/chat/completions", json={"model": "auto", **body}, headers=sent)


def timeless(reply: httpx.Response) -> bytes:
    return re.sub(rb'"created":\d+', b'"created":0', reply.content)


@pytest.mark.parametrize("more", [{}, {"stream": True, "stream_options": {"include_usage": True}}, {"n": 3}])
async def test_a_hit_is_the_same_answer_byte_by_byte(client: httpx.AsyncClient, stub: Stub, more: Any) -> None:
    miss, hit = await ask(client, **more), await ask(client, **more)
    assert (miss.status_code, hit.status_code) == (200, 200)
    assert (miss.headers["x-megacity-cache"], hit.headers["x-megacity-cache"]) == ("miss", "hit")
    assert timeless(miss) == timeless(hit)
    assert len(stub.jobs) == 1


async def test_a_stream_and_a_whole_answer_share_an_entry(client: httpx.AsyncClient, stub: Stub) -> None:
    await ask(client)
    assert (await ask(client, stream=True)).headers["x-megacity-cache"] == "hit"


@pytest.mark.parametrize("directive", ["no-store", "no-cache", "max-age=0, No-Store"])
async def test_cache_control_is_honoured(client: httpx.AsyncClient, stub: Stub, directive: str) -> None:
    await ask(client)
    reply = await ask(client, headers={"cache-control": directive})
    assert reply.headers["x-megacity-cache"] == "bypass"
    assert len(stub.jobs) == 2


async def test_an_answer_that_is_sampled_says_bypass(client: httpx.AsyncClient) -> None:
    assert (await ask(client, temperature=1)).headers["x-megacity-cache"] == "bypass"


async def test_a_failed_stream_is_not_kept(client: httpx.AsyncClient, stub: Stub) -> None:
    for _ in range(2):
        assert "The engine broke." in (await ask(client, "go|broken", stream=True)).text
    assert len(stub.jobs) == 2
