import re

import httpx
import pytest

from serve_app.api.responses import header_text
from tests.api.stub import Stub

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
PATHS = ["/healthz", "/v1/models", "/nowhere", "/v1/models/nobody", "/docs", "/openapi.json"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_has_an_id_and_a_trace(raw: httpx.AsyncClient, path: str) -> None:
    answer = await raw.get(path)
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", answer.headers["traceparent"])


@pytest.mark.parametrize("given", ["a", "A-b_c.d:1", "x" * 128])
async def test_a_well_formed_id_is_kept(raw: httpx.AsyncClient, stub: Stub, given: str) -> None:
    answer = await raw.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == stub.jobs[0].id == given
    assert answer.json()["id"] == f"chatcmpl-{given}"


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", 'a"b', "<a>", "é", "a;b", "a,b"])
async def test_any_other_id_is_replaced(raw: httpx.AsyncClient, stub: Stub, given: str) -> None:
    answer = await raw.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": given.encode("latin-1")})
    assert answer.headers["x-request-id"] == stub.jobs[0].id != given
    assert stub.jobs[0].id.startswith("req_")


async def test_a_trace_is_carried_on(raw: httpx.AsyncClient, stub: Stub) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = await raw.post("/v1/chat/completions", json=CHAT, headers={"traceparent": trace})
    assert answer.headers["traceparent"] == stub.jobs[0].traceparent == trace


@pytest.mark.parametrize(
    "trace", ["", "00", f"00-{'0' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01"]
)
async def test_a_malformed_trace_is_replaced(raw: httpx.AsyncClient, stub: Stub, trace: str) -> None:
    await raw.post("/v1/chat/completions", json=CHAT, headers={"traceparent": trace})
    assert stub.jobs[0].traceparent != trace
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", stub.jobs[0].traceparent)


async def test_an_answer_says_who_gave_it_and_why(raw: httpx.AsyncClient) -> None:
    answer = await raw.post("/v1/chat/completions", json=CHAT)
    assert answer.headers["x-megacity-model"] == "tutor@3"
    assert answer.headers["x-megacity-route"] == "default -> tutor"
    assert answer.headers["content-length"] == str(len(answer.content))


def test_no_header_can_be_split_or_grow_long() -> None:
    assert header_text("zone\r\nset-cookie: x 학생") == "zone??set-cookie: x ??"
    assert len(header_text("x" * 1000)) == 256


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/docs"])
async def test_head_is_get_without_a_body(raw: httpx.AsyncClient, path: str) -> None:
    answer = await raw.head(path)
    assert answer.status_code == 200
    assert answer.content == b""
