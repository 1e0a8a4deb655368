"""An answer in one piece survives the loss of its engine at any time: nothing of it has been seen yet."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import uvicorn

from serve_app.api import http
from serve_app.api.service import Service
from serve_app.errors import Unavailable
from serve_app.pipeline import compose
from serve_app.policies.caching import CacheRules
from serve_app.services.kv import Memory
from serve_app.stages.cache import cache
from serve_app.stages.plan import plan
from serve_app.types import Delta, Done, Routed, Wish
from tests.api.stub import OPEN, Stub
from tests.dispatch.conftest import Bench, job

LOST = Unavailable("the engine was lost")


@pytest.fixture
def breaking(bench: Bench) -> Bench:
    """The first engine breaks once, in the middle of its answer."""
    bench.engines["a"].script, bench.engines["a"].after_first = ["broken"], LOST
    return bench


async def test_a_run_starts_anew_with_another_routed(breaking: Bench) -> None:
    whole = replace(job(), wish=Wish(whole=True))
    events = [event async for event in breaking.run(whole)]
    assert [type(event) for event in events] == [Routed, Delta, Routed, Delta, Done]
    assert isinstance(events[2], Routed)
    assert (events[2].decision.engine, events[2].attempts) == ("b", 2)


@pytest.fixture
async def client(breaking: Bench) -> AsyncIterator[httpx.AsyncClient]:
    stub = Stub()
    stages = [plan(lambda _: job("ab").plan), cache(Memory(10**6), CacheRules(), b"secret")]
    service = Service(compose(stages, breaking.run), stub.router, lambda: stub.states, stub.limits, access=OPEN)
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


async def ask(client: httpx.AsyncClient, route: str = "chat/completions", **more: Any) -> httpx.Response:
    asked = {"messages": [{"role": "user", "content": "hello"}]} if route.startswith("chat") else {}
    return await client.post(f"/v1/{route}", json={"model": "auto", "temperature": 0, **asked, **more})


async def test_the_caller_gets_one_coherent_answer(client: httpx.AsyncClient, breaking: Bench) -> None:
    reply = await ask(client)
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"] == "b"
    assert reply.json()["model"] == "model-b"
    assert "a failed: unavailable" in reply.headers["x-megacity-route"]


async def test_no_part_of_the_lost_attempt_is_kept(client: httpx.AsyncClient, breaking: Bench) -> None:
    breaking.health = {"b": "waking"}
    contents = [(await ask(client)).json()["choices"][0]["message"]["content"] for _ in range(2)]
    assert contents == ["a", "a"]
    assert breaking.attempts == 2


async def test_a_stream_tells_the_failure(client: httpx.AsyncClient, breaking: Bench) -> None:
    text = (await ask(client, stream=True)).text
    assert "the engine was lost" in text
    assert '"finish_reason":"stop"' not in text


async def test_of_several_prompts_none_starts_anew(client: httpx.AsyncClient, breaking: Bench) -> None:
    assert (await ask(client, "completions", prompt=["one", "two"])).status_code == 503
