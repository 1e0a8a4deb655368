"""Whatever comes in, what goes out is the envelope with the right status and field."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest

from tests.api.stub import Stub

SECRET = "hunter2"
USER = {"role": "user", "content": "hi"}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def chat(**fields: object) -> dict[str, object]:
    return {"model": "auto", "messages": [USER], **fields}


def without(field: str) -> dict[str, object]:
    return {name: value for name, value in chat().items() if name != field}


def said(content: object, **more: object) -> dict[str, object]:
    return chat(messages=[{"role": "user", "content": content, **more}])


CHATS: list[tuple[dict[str, object], str]] = [
    (without("model"), "model"),
    (without("messages"), "messages"),
    (chat(model=None), "model"),
    (chat(model=5), "model"),
    (chat(model=""), "model"),
    (chat(model=SECRET * 100), "model"),
    (chat(messages=None), "messages"),
    (chat(messages=SECRET), "messages"),
    (chat(messages={"role": SECRET}), "messages"),
    (chat(messages=[]), "messages"),
    (chat(messages=[USER] * 2001), "messages"),
    (chat(messages=[SECRET]), "messages.0"),
    (chat(messages=[USER, None]), "messages.1"),
    (chat(messages=[{}]), "messages.0.role"),
    (chat(messages=[{"content": SECRET}]), "messages.0.role"),
    (chat(messages=[{"role": SECRET, "content": SECRET}]), "messages.0.role"),
    (chat(messages=[{"role": ["user"], "content": SECRET}]), "messages.0.role"),
    (chat(messages=[{"role": "user"}]), "messages.0.content"),
    (chat(messages=[{"role": "tool", "content": SECRET}]), "messages.0.tool_call_id"),
    (said(None), "messages.0.content"),
    (said(7), "messages.0.content"),
    (said({"type": "text"}), "messages.0.content"),
    (said([]), "messages.0.content"),
    (said([SECRET]), "messages.0.content.0"),
    (said([{"text": SECRET}]), "messages.0.content.0.type"),
    (said([{"type": SECRET}]), "messages.0.content.0.type"),
    (said([{"type": "text"}]), "messages.0.content.0.text"),
    (said([{"type": "text", "text": 5}]), "messages.0.content.0.text"),
    (said([{"type": "text", "text": "a"}, {"type": "image_url"}]), "messages.0.content.1.image_url"),
    (said([{"type": "image_url", "image_url": SECRET}]), "messages.0.content.0.image_url"),
    (said([{"type": "input_audio", "input_audio": {"data": ""}}]), "messages.0.content.0.input_audio.format"),
    (chat(n=0), "n"),
    (chat(n=-1), "n"),
    (chat(n=9), "n"),
    (chat(n=10**9), "n"),
    (chat(n=10**30), "n"),
    (chat(n=1.5), "n"),
    (chat(n="2"), "n"),
    (chat(n=True), "n"),
    (chat(max_tokens=-1), "max_tokens"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_tokens=10**9), "max_tokens"),
    (chat(max_completion_tokens=-5), "max_completion_tokens"),
    (chat(max_completion_tokens=32_769), "max_completion_tokens"),
    (chat(max_completion_tokens=[]), "max_completion_tokens"),
    (chat(temperature=-0.1), "temperature"),
    (chat(temperature=2.1), "temperature"),
    (chat(temperature=1e308), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(temperature=True), "temperature"),
    (chat(top_p=1.1), "top_p"),
    (chat(seed=2**63), "seed"),
    (chat(seed=-(2**63) - 1), "seed"),
    (chat(seed=0.5), "seed"),
    (chat(stop=5), "stop"),
    (chat(stop=""), "stop"),
    (chat(stop=[]), "stop"),
    (chat(stop=["a", 5]), "stop.1"),
    (chat(stop=["a", "b", "c", "d", "e"]), "stop"),
    (chat(stream="yes"), "stream"),
    (chat(stream=1), "stream"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(stream=True, stream_options=[SECRET]), "stream_options"),
    (chat(stream=True, stream_options={"include_usage": SECRET}), "stream_options.include_usage"),
    (chat(frequency_penalty=3), "frequency_penalty"),
    (chat(presence_penalty=-3), "presence_penalty"),
    (chat(logit_bias={SECRET: SECRET}), "logit_bias"),
    (chat(logit_bias={SECRET: 101}), "logit_bias"),
    (chat(logit_bias=[]), "logit_bias"),
    (chat(user=5), "user"),
    (chat(user=SECRET * 100), "user"),
    (chat(service_tier=SECRET), "service_tier"),
    (chat(metadata=SECRET), "metadata"),
    (chat(metadata={"zone": 5}), "metadata.zone"),
    (chat(metadata={"zone": "nowhere"}), "metadata.zone"),
    (chat(metadata={"task": "nothing"}), "metadata.task"),
    (chat(metadata={"template": "nothing"}), "metadata.template"),
    (chat(tools=[{"type": "function"}]), "tools.0.function"),
    (chat(tools=[{"type": "function", "function": {"name": f"{SECRET} {SECRET}"}}]), "tools.0.function.name"),
    (chat(tools=[{"type": SECRET}]), "tools.0.type"),
    (chat(tool_choice=SECRET), "tool_choice"),
    (chat(tool_choice={"type": SECRET}), "tool_choice.type"),
    (chat(response_format={}), "response_format.type"),
    (chat(response_format={"type": SECRET}), "response_format.type"),
    (chat(logprobs=SECRET), "logprobs"),
    (chat(top_logprobs=21), "top_logprobs"),
    (chat(modalities=[SECRET]), "modalities.0"),
]

TEXTS: list[tuple[dict[str, object], str]] = [
    ({"model": "auto"}, "prompt"),
    ({"model": "auto", "prompt": None}, "prompt"),
    ({"model": "auto", "prompt": []}, "prompt"),
    ({"model": "auto", "prompt": [1, 2]}, "prompt.0"),
    ({"model": "auto", "prompt": [[1, 2]]}, "prompt.0"),
    ({"model": "auto", "prompt": {"text": SECRET}}, "prompt"),
    ({"model": "auto", "prompt": ["x"] * 17}, "prompt"),
    ({"model": "auto", "prompt": "x", "echo": 1}, "echo"),
    ({"model": "auto", "prompt": "x", "logprobs": 6}, "logprobs"),
    ({"prompt": "x"}, "model"),
]

BODIES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"   ", 400),
    (b"null", 400),
    (b"true", 400),
    (b"5", 400),
    (b'"hunter2"', 400),
    (b"[]", 400),
    (b'[{"model": "auto"}]', 400),
    (b"{", 400),
    (b'{"model": "auto",}', 400),
    (b"{'model': 'auto'}", 400),
    (b"hunter2", 400),
    (b'{"model": "auto", "temperature": NaN}', 400),
    (b'{"model": "auto", "temperature": Infinity}', 400),
    (b'{"model": "auto", "temperature": -Infinity}', 400),
    (b'{"model": "auto", "temperature": 1e999}', 400),
    (b'{"model": "\xff\xfe"}', 400),
    (b'{"model": "\xed\xa0\x80"}', 400),
    (b'{"model": "\\ud800"}', 400),
    ('{"model": "학생"}'.encode("euc-kr"), 400),
    (b"\xef\xbb\xbf{}", 400),
    (b"[" * 100_000, 400),
    (b'{"a":' * 100_000, 400),
    (b'{"model": "auto"}{}', 400),
    (b"\x00" * 100, 400),
    (b'{"model": "auto", "messages": [{"role": "user", "content": "' + b"x" * 5_000_000 + b'"}]}', 413),
    (b"x" * 10_000_000, 413),
]


def checked(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer that has the envelope and gives nothing away."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert SECRET not in answer.text
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].strip().endswith((".", "?"))
    return error


def named(cases: Iterable[tuple[dict[str, object], str]]) -> list[Any]:
    return [pytest.param(body, param, id=f"{param}-{number}") for number, (body, param) in enumerate(cases)]


@pytest.mark.parametrize(("body", "param"), named(CHATS))
async def test_a_bad_chat(raw: httpx.AsyncClient, stub: Stub, body: dict[str, object], param: str) -> None:
    error = checked(await raw.post(CHAT, json=body), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(("body", "param"), named(TEXTS))
async def test_a_bad_completion(raw: httpx.AsyncClient, body: dict[str, object], param: str) -> None:
    error = checked(await raw.post(TEXT, json=body), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
async def test_a_bad_body(raw: httpx.AsyncClient, stub: Stub, body: bytes, status: int) -> None:
    error = checked(await raw.post(CHAT, content=body, headers={"content-type": "application/json"}), status)
    assert error["type"] == "invalid_request_error"
    assert stub.jobs == []


async def test_a_body_that_is_too_long_is_noticed_while_it_comes(raw: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    error = checked(await raw.post(CHAT, content=endless()), 413)
    assert "4194304 bytes" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/nowhere", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/hunter2", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("GET", "/v1/models/%00", 404),
        ("GET", "/v1/models/%ff", 404),
        ("POST", CHAT + "/", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/docs/assets/../http.py", 404),
        ("GET", "/docs/assets/%2e%2e/core.py", 404),
        ("GET", "/docs/assets/nothing.js", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models/tutor", 405),
        ("OPTIONS", CHAT, 405),
        ("POST", "/healthz", 405),
        ("PUT", "/api/v1/ai/route", 405),
        ("PATCH", "/v1/models", 405),
        ("POST", "/docs/assets/swagger-ui.css", 405),
    ],
)
async def test_a_path_or_a_method_that_is_not_there(
    raw: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await raw.request(method, path)
    assert checked(answer, status)["type"] == "invalid_request_error"
    assert status == 404 or answer.headers["allow"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", ["bug", "|bug"])
async def test_an_unexpected_error_is_logged_without_its_text(
    raw: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, script: str, stream: bool
) -> None:
    body = chat(messages=[{"role": "user", "content": script}], stream=stream)
    answer = await raw.post(CHAT, json=body, headers={"x-request-id": "abc-1"})
    assert "abc-1" in answer.text
    record = next(record for record in caplog.records if record.name == "megacity")
    assert vars(record)["fields"]["error"] == "ZeroDivisionError"
    assert "secret" not in caplog.text + answer.text


async def test_a_client_that_leaves_while_it_sends_is_no_fault(
    url: str, raw: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.sleep(0.05)
    assert (await raw.get("/healthz")).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_json_is_taken_whatever_it_is_called(raw: httpx.AsyncClient) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/vnd.api+json", ""):
        answer = await raw.post(CHAT, content=json.dumps(chat()), headers={"content-type": kind} if kind else {})
        assert answer.status_code == 200


@pytest.mark.parametrize("form", [{"data": {"model": SECRET}}, {"files": {"file": b"hunter2"}}])
async def test_a_form_is_told_what_would_be_right(raw: httpx.AsyncClient, form: dict[str, Any]) -> None:
    error = checked(await raw.post(CHAT, **form), 415)
    assert "application/json" in error["message"]


async def test_a_compressed_body_is_refused(raw: httpx.AsyncClient) -> None:
    checked(await raw.post(CHAT, content=b"x", headers={"content-encoding": "gzip"}), 415)


async def test_a_model_that_cannot_do_it(raw: httpx.AsyncClient, stub: Stub) -> None:
    stub.states["remote"] = "ready"
    error = checked(await raw.post(CHAT, json=chat(model="org/big", logprobs=True)), 400)
    assert error["code"] == "unsupported_feature"


async def test_fields_that_nobody_knows_and_keys_that_come_twice_are_let_through(raw: httpx.AsyncClient) -> None:
    deep = "[" * 500 + "]" * 500
    body = json.dumps(chat())[:-1] + f', "new": {deep}, "n": "x", "n": 2.0}}'
    answer = await raw.post(CHAT, content=body)
    assert len(answer.json()["choices"]) == 2


async def test_messages_say_what_was_wrong_and_what_would_be_right(raw: httpx.AsyncClient) -> None:
    async def message(**fields: object) -> str:
        text: str = (await raw.post(CHAT, json=chat(**fields))).json()["error"]["message"]
        return text

    assert await message(model=None) == "'model' should be a string, not null."
    assert await message(n=9) == "'n' should be at most 8."
    assert await message(temperature=3) == "'temperature' should be less than or equal to 2."
    assert await message(messages=[{"role": "x"}]) == (
        "'messages.0.role' should be one of 'system', 'developer', 'user', 'assistant', 'tool'."
    )
    assert await message(n="x", seed=0.5) == "'n' should be an integer of at most 64 bits, not a string. 1 more found."
