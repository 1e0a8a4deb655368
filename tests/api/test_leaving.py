"""What becomes of a run whose client leaves, or does not read."""

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest
from starlette.types import Message

from serve_app.api import http
from serve_app.api.runs import AHEAD, Feed
from serve_app.types import Delta, Event
from tests.api.stub import Stub


async def leave(url: str, script: str, stream: bool, path: str = "/v1/chat/completions") -> None:
    """Send a request, wait until it surely runs, and hang up."""
    body = {"model": "tutor", "messages": [{"role": "user", "content": script}], "prompt": script, "stream": stream}
    payload = json.dumps(body).encode()
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", ["hang", "|hang"])
async def test_a_client_that_leaves_stops_its_run(url: str, stub: Stub, script: str, stream: bool, path: str) -> None:
    await leave(url, script, stream, path)
    await asyncio.wait_for(stub.closed.wait(), 1)
    assert stub.running == 0
    assert len(stub.jobs) == 1


async def test_a_client_that_stays_is_served_to_the_end(raw: httpx.AsyncClient, stub: Stub) -> None:
    body = {"model": "tutor", "messages": [{"role": "user", "content": "|slow"}], "stream": True}
    assert (await raw.post("/v1/chat/completions", json=body)).text.endswith("data: [DONE]\n\n")
    assert stub.running == 0


async def test_a_stream_is_not_read_ahead_of_a_client_that_does_not_read() -> None:
    stub = Stub()
    stuck = asyncio.Event()
    body = json.dumps({"model": "tutor", "messages": [{"role": "user", "content": "flood"}], "stream": True}).encode()
    incoming = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(incoming, None) or await asyncio.Event().wait()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b""}
    serving = asyncio.create_task(http.build(stub.service())(scope, receive, send))
    await stuck.wait()
    await asyncio.sleep(0.1)
    assert stub.produced <= 2 * AHEAD + 2
    serving.cancel()
    await asyncio.wait([serving])
    assert stub.running == 0


async def test_a_feed_reads_a_bounded_number_ahead_and_in_order() -> None:
    produced = 0

    async def count() -> AsyncGenerator[Event]:
        nonlocal produced
        while produced < 100:
            produced += 1
            yield Delta(str(produced))

    seen: list[str] = []
    async with Feed(count(), ahead=10) as feed:
        await asyncio.sleep(0.01)
        assert produced == 11  # one is in hand, waiting for room
        while events := await feed.take():
            seen += [event.text for event in events if isinstance(event, Delta)]
    assert seen == [str(n) for n in range(1, 101)]


async def test_a_feed_tells_of_a_run_that_was_cancelled_from_inside() -> None:
    async def cancelled() -> AsyncGenerator[Event]:
        yield Delta("x")
        raise asyncio.CancelledError

    async with Feed(cancelled()) as feed:
        assert len(await feed.take()) == 1
        with pytest.raises(Exception, match="stopped"):
            await feed.take()
