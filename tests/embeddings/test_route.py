"""The route with the real engine behind it, as stock clients use it."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import uvicorn

from deployments.embeddings import Encoder
from serve_app.api import http
from serve_app.api.service import Service
from serve_app.policies.limits import Limits
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import RoutingTables
from serve_app.types import Event, Job, Kind, Routed
from tests.api.stub import OPEN

MINI = Model("all-minilm-l6-v2", "encoder", kinds=frozenset({Kind.EMBEDDING}))
TABLES = RoutingTables(default="all-minilm-l6-v2", aliases={"text-embedding-3-small": "all-minilm-l6-v2"})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    engine = Encoder(Encoder.Options(path="models/all-minilm-l6-v2", max_tokens=256))
    await engine.load()
    router = Router(TABLES, {MINI.id: MINI}, Templates())

    async def run(job: Job) -> AsyncGenerator[Event]:
        yield Routed(router.decide(job, {"encoder": "ready"})[0].decision)
        async for event in engine.run(job):
            yield event

    limits = Limits(max_embedding_inputs=100)
    service = Service(run, router, lambda: {"encoder": "ready"}, limits, access=OPEN)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(http.build(service), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = server.force_exit = True
        await serving
    await engine.close()


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-local-standard", max_retries=0) as client:
        yield client


async def test_the_stock_client_gets_vectors(client: openai.AsyncOpenAI) -> None:
    """It asks for base64 by itself and decodes it."""
    answer = await client.embeddings.create(model="text-embedding-3-small", input=["a dog", "a puppy", "tax law"])
    dog, puppy, law = (np.array(one.embedding) for one in answer.data)
    assert len(dog) == 384
    assert dog @ puppy > dog @ law + 0.2
    assert answer.model == "all-minilm-l6-v2"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 12


async def test_numbers_and_base64_are_the_same(client: openai.AsyncOpenAI) -> None:
    text = await client.embeddings.create(model="auto", input="a dog", encoding_format="base64")
    numbers = await client.embeddings.create(model="auto", input="a dog", encoding_format="float")
    assert isinstance(numbers.data[0].embedding, list)
    decoded: Any = text.data[0].embedding
    if isinstance(decoded, str):
        import base64

        decoded = np.frombuffer(base64.b64decode(decoded), "<f4")
    assert np.allclose(decoded, numbers.data[0].embedding)


async def test_dimensions(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model="auto", input="a dog", dimensions=128)
    vector = np.array(answer.data[0].embedding)
    assert vector.shape == (128,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["a"] * 101}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 4096}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({}, "input"),
    ],
)
async def test_bad_requests_name_the_field(url: str, body: dict[str, Any], param: str) -> None:
    async with httpx.AsyncClient(base_url=url) as raw:
        answer = await raw.post("/v1/embeddings", json={"model": "auto", **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_headers_say_who_answered_and_for_how_much(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as raw:
        answer = await raw.post("/v1/embeddings", json={"model": "auto", "input": "a"})
    assert answer.headers["x-megacity-model"].startswith("all-minilm-l6-v2@")
    assert answer.headers["x-megacity-cache"] == "bypass"
    assert float(answer.headers["x-megacity-cost-usd"]) >= 0
