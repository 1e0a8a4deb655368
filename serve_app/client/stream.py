"""Server-sent events, and OpenAI's streams of them."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from serve_app.client.failures import rebuilt
from serve_app.errors import EngineFailed
from serve_app.policies.pricing import NANO
from serve_app.types import Delta, Done, Usage

_NEWLINE = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)  # a last \r waits for the \n that may follow it


async def server_sent(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The data of each server-sent event (WHATWG HTML, section 9.2), however the bytes were cut on their way."""
    rest, data = b"", list[bytes]()
    async for chunk in chunks:
        *lines, rest = _NEWLINE.split(rest + chunk)
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data.clear()


async def told(events: AsyncIterator[bytes]) -> AsyncGenerator[Delta | Done]:
    """An OpenAI stream as events; raises if it fails, or stops before it says that it is done."""
    usage, finish = Usage(), None
    async for data in events:
        if data == b"[DONE]" and finish:
            yield Done(usage, (finish,))
            return
        chunk = object_of(data)
        if found := chunk.get("usage"):
            usage = _usage(found)
        for choice in chunk.get("choices", ()):
            finish = choice.get("finish_reason") or finish
            if text := choice.get("delta", {}).get("content"):
                yield Delta(text)
    raise EngineFailed("The stream ended before the answer was complete.")


def object_of(data: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise EngineFailed("The stream holds something else than an answer.") from error
    if not isinstance(chunk, dict):
        raise EngineFailed("The stream holds something else than an answer.")
    if isinstance(failure := chunk.get("error"), dict):
        raise rebuilt(failure, None)
    return chunk


def _usage(found: Mapping[str, Any]) -> Usage:
    cached = (found.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    cost = round(found.get("cost_usd", 0) * NANO)
    return Usage(found["prompt_tokens"], found["completion_tokens"], cached, cost_nano_usd=cost)
