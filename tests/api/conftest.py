import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import uvicorn

from serve_app.api import http
from tests.api.stub import Stub


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
async def url(stub: Stub) -> AsyncIterator[str]:
    """Where the HTTP door of `stub` really listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(http.build(stub.service()), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
async def raw(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=5) as client:
        yield client


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    key = "sk-local-standard"
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=5) as client:
        yield client
