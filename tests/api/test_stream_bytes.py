"""Server-sent events, byte by byte."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from serve_app.policies.limits import Limits
from tests.api.stub import Stub


def ask(script: str, **more: object) -> dict[str, object]:
    return {"model": "tutor", "messages": [{"role": "user", "content": script}], "stream": True, **more}


async def events(raw: httpx.AsyncClient, body: dict[str, object]) -> list[str]:
    """The stream's events, having checked that it is made of nothing else."""
    answer = await raw.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.text.endswith("\n\n")
    assert "\r" not in answer.text
    return answer.text.removesuffix("\n\n").split("\n\n")


async def test_the_whole_stream(raw: httpx.AsyncClient) -> None:
    *chunks, end = await events(raw, ask("hi", stream_options={"include_usage": True}))
    assert end == "data: [DONE]"
    data = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    deltas = [(d["choices"][0]["delta"], d["choices"][0]["finish_reason"]) for d in data[:-1]]
    assert deltas == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "안"}, None),
        ({"content": "녕"}, None),
        ({"content": "!"}, None),
        ({}, "stop"),
    ]
    assert all(d["usage"] is None and d["object"] == "chat.completion.chunk" for d in data[:-1])
    assert data[-1]["choices"] == []
    assert data[-1]["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2},
        "cost_usd": 1.2e-07,
    }
    assert len({(d["id"], d["created"], d["model"]) for d in data}) == 1


async def test_korean_is_written_as_it_is_and_json_is_compact(raw: httpx.AsyncClient) -> None:
    answer = await raw.post("/v1/chat/completions", json=ask("hi"))
    assert '"delta":{"content":"안"}' in answer.text
    assert "usage" not in answer.text


async def test_headers_of_a_stream(raw: httpx.AsyncClient) -> None:
    answer = await raw.post("/v1/chat/completions", json=ask("hi"), headers={"x-request-id": "mine"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-megacity-model"] == "tutor@3"
    assert answer.headers["x-megacity-route"] == "model=tutor -> tutor"
    assert "content-encoding" not in answer.headers


async def test_an_error_before_the_first_token_has_its_own_status(raw: httpx.AsyncClient) -> None:
    answer = await raw.post("/v1/chat/completions", json=ask("full"))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("script", ["|broken", "|bug", "|unfinished"])
async def test_an_error_after_the_first_token_never_looks_like_an_end(raw: httpx.AsyncClient, script: str) -> None:
    *_, error, end = await events(raw, ask(script, stream_options={"include_usage": True}))
    assert end == "data: [DONE]"
    assert set(json.loads(error.removeprefix("data: "))["error"]) == {"message", "type", "param", "code"}
    assert '"finish_reason":"stop"' not in "".join(_)
    assert "secret" not in error


@pytest.mark.parametrize("stub", [Stub(Limits(heartbeat_s=0.05))])
async def test_a_heartbeat_while_nothing_comes(raw: httpx.AsyncClient) -> None:
    async with raw.stream("POST", "/v1/chat/completions", json=ask("|hang")) as answer:
        lines = [line async for line in _until(": keep-alive", answer.aiter_lines())]
    assert lines.count("") == 4


async def _until(last: str, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if line == last:
            return
        yield line


async def test_an_answer_without_text_still_has_a_beginning_and_an_end(raw: httpx.AsyncClient) -> None:
    first, last, end = await events(raw, ask("nothing|"))
    assert '"role":"assistant"' in first
    assert '"finish_reason":"stop"' in last
    assert end == "data: [DONE]"
