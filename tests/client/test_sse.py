"""Streams as they arrive in the wild: cut anywhere, stopped anywhere, or not ours at all."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from serve_app import errors
from serve_app.client import MegaCity, server_sent
from tests.client.conftest import listening


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if text is None else {"content": text}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = chunk("한 줄\u2028둘 ") + b": keep-alive\n\n" + chunk("😀") + chunk(finish="length") + USAGE + DONE


class Upstream:
    """Answers every request with the same bytes, in these pieces."""

    def __init__(self, *pieces: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.pieces = pieces
        self.status = status
        self.headers = headers
        self.cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        if self.cut:
            raise ConnectionAbortedError
        await send({"type": "http.response.body", "body": b""})


async def parsed(*pieces: bytes) -> list[bytes]:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [data async for data in server_sent(source())]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
async def test_events_survive_every_cut(newline: bytes) -> None:
    raw = b"data: a\ndata:b\n\n: note\n\nevent: x\ndata: \xed\x95\x9c\nid: 1\n\ndata: end\n\n".replace(b"\n", newline)
    raw += b"x"  # so that a last \r is known to be a line's end
    expected = [b"a\nb", "한".encode(), b"end"]
    for cut in range(len(raw)):
        assert await parsed(raw[:cut], raw[cut:]) == expected
    assert await parsed(*(raw[i : i + 1] for i in range(len(raw)))) == expected


async def test_an_event_that_was_not_finished_is_none() -> None:
    assert await parsed(b"data: whole\n\ndata: ha") == [b"whole"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_answers_survive_every_cut(size: int) -> None:
    headers = ((b"x-megacity-model", b"org/a@b@2"), (b"x-megacity-route", b"default -> org/a"))
    pieces = [WHOLE[i : i + size] for i in range(0, len(WHOLE), size)]
    async with listening(Upstream(*pieces, headers=headers)) as url, MegaCity(url) as city:
        answer = await city.chat("hi")
    assert (answer.text, answer.finish_reason) == ("한 줄\u2028둘 😀", "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 2)
    assert (answer.model, answer.version) == ("org/a@b", "2")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        chunk("half"),
        chunk("half") + DONE,
        chunk("half", finish="stop"),
        chunk("half") + b"data: {broken\n\n",
        b"<html>a login page</html>",
    ],
)
async def test_a_stream_that_stops_early_is_no_answer(body: bytes) -> None:
    async with listening(Upstream(body)) as url, MegaCity(url) as city:
        with pytest.raises(errors.EngineFailed):
            await city.chat("hi")


async def test_a_connection_that_breaks_is_no_answer() -> None:
    upstream = Upstream(chunk("half"))
    upstream.cut = True
    async with listening(upstream) as url, MegaCity(url) as city:
        stream = city.stream("hi")
        with pytest.raises(errors.EngineFailed):
            _ = [piece async for piece in stream]
        with pytest.raises(RuntimeError, match="not complete"):
            _ = stream.answer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "m", "code": "engine_failed"}, errors.EngineFailed),
        ({"message": "m", "code": "unavailable"}, errors.Unavailable),
        ({"message": "m", "code": "never_heard_of"}, errors.EngineFailed),
        ({"message": "m"}, errors.EngineFailed),
    ],
)
async def test_an_error_event_is_raised(error: dict[str, str], kind: type[errors.MegaCityError]) -> None:
    event = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    async with listening(Upstream(chunk("half") + event + DONE)) as url, MegaCity(url) as city:
        with pytest.raises(errors.MegaCityError) as caught:
            await city.chat("hi")
    assert type(caught.value) is kind
    assert caught.value.message == "m"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, b"<html>Bad Gateway</html>", errors.MegaCityError),
        (503, b"", errors.Unavailable),
        (404, b'{"detail": "Not Found"}', errors.NotFound),
        (429, b'{"error": {"message": "m", "code": "insufficient_quota"}}', errors.InsufficientQuota),
        (418, b'{"error": "short and stout"}', errors.MegaCityError),
    ],
)
async def test_answers_that_are_not_ours(status: int, body: bytes, kind: type[errors.MegaCityError]) -> None:
    async with listening(Upstream(body, status=status)) as url, MegaCity(url) as city:
        with pytest.raises(errors.MegaCityError) as caught:
            await city.models()
    assert type(caught.value) is kind
    assert caught.value.status == status
