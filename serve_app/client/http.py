"""The way over HTTP."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any

import httpx

from serve_app.client.failures import refusal, understood
from serve_app.client.files import opened
from serve_app.client.routes import Request, answer, request, sound
from serve_app.client.stream import server_sent, told
from serve_app.client.way import Answerer, Found, Run
from serve_app.errors import DeadlineExceeded, EngineFailed, NotFound, Unavailable
from serve_app.policies.pricing import NANO
from serve_app.types import Chat, Dance, Decision, Job, Priority, Speech, Usage

CONNECT_S = 10.0
UNKNOWN = "application/octet-stream"


class Http:
    """Chats and speech are always streamed: what is silent for long is then dead and not busy."""

    def __init__(self, base_url: str, key: str | None, timeout_s: float) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        self._client = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout)

    async def run(self, job: Job) -> Run:
        body = {**_body(job), "stream": True, "stream_options": {"include_usage": True}}
        async with self._answered("POST", "/v1/chat/completions", json=body, headers={"x-request-id": job.id}) as reply:
            yield _answerer(reply)
            async with contextlib.aclosing(told(server_sent(reply.aiter_bytes()))) as events:
                async for event in events:
                    yield event

    async def ask(self, job: Job) -> Found:
        wanted = request(job)
        async with contextlib.AsyncExitStack() as stack:
            sent = _sent(wanted, stack)
            reply = await stack.enter_async_context(
                self._answered(wanted.method, wanted.path, headers={"x-request-id": job.id}, **sent)
            )
            who = _answerer(reply)
            if isinstance(job.payload, Speech):
                with understood():
                    data, usage = await sound(server_sent(reply.aiter_bytes()))
                return Found(who, "", {"audio": data}, usage)
            body = await reply.aread()
        with understood():
            found = json.loads(body)
            text, artifacts = answer(job.payload, found)
            usage = Usage(cost_nano_usd=round(float(reply.headers.get("x-megacity-cost-usd", 0)) * NANO))
        if isinstance(job.payload, Dance):
            artifacts["heatmap"] = await self._stored(str(found.get("heatmap_url")))
        return Found(who, text, artifacts, usage)

    async def _stored(self, path: str) -> bytes | None:
        """A result that the service keeps; `None` if another of its nodes does."""
        try:
            async with self._answered("GET", path) as reply:
                return await reply.aread()
        except NotFound:
            return None

    async def decide(self, job: Job) -> Decision:
        async with self._answered("POST", "/api/v1/ai/route", json=_body(job)) as reply:
            found = json.loads(await reply.aread())
        known = {field.name: found[field.name] for field in fields(Decision)}
        tuples = {"reasons": tuple(found["reasons"]), "alternatives": tuple(found["alternatives"])}
        return Decision(**{**known, **tuples, "priority": Priority[found["priority"].upper()]})

    async def models(self) -> list[str]:
        async with self._answered("GET", "/v1/models") as reply:
            return [card["id"] for card in json.loads(await reply.aread())["data"]]

    async def aclose(self) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def _answered(self, method: str, path: str, **request: Any) -> AsyncIterator[httpx.Response]:
        """The reply to a request, its body still to be read; every failure as an error of ours."""
        started = False
        try:
            async with self._client.stream(method, path, **request) as reply:
                if not reply.is_success:
                    raise refusal(reply, await reply.aread())
                started = True
                yield reply
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            where = self._client.base_url.netloc.decode()
            raise Unavailable(f"No service answers at {where}. Is it running? `megacity up` starts one.") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"The service was silent for {self._client.timeout.read:g} s.") from error
        except httpx.TransportError as error:
            if started:
                raise EngineFailed("The connection broke before the answer was complete.") from error
            raise Unavailable("The connection broke before an answer came. Please try again.") from error


def _answerer(reply: httpx.Response) -> Answerer:
    model, _, version = reply.headers.get("x-megacity-model", "").rpartition("@")
    return Answerer(model, version, reply.headers.get("x-megacity-route", ""))


def _sent(wanted: Request, stack: contextlib.AsyncExitStack) -> dict[str, Any]:
    """What httpx is to send; files are open for as long as `stack` is."""
    if wanted.form is None:
        return {"json": wanted.body, "params": wanted.query}
    form = wanted.form
    texts = {name: (value,) if isinstance(value, str) else value or () for name, value in form.fields.items()}
    parts: list[tuple[str, Any]] = [(name, (None, text)) for name, several in texts.items() for text in several]
    for name, file in form.files.items():
        if file is not None:
            parts.append((name, (form.name, stack.enter_context(opened(file)), file.media_type or UNKNOWN)))
    return {"files": parts}  # fields too: so it is a form with files even without one


def _body(job: Job) -> dict[str, Any]:
    """The job as an OpenAI chat request, without what was left out."""
    assert isinstance(job.payload, Chat)
    wish, sampling = job.wish, job.payload.sampling
    hints = {"zone": wish.zone, "task": wish.task, "locale": wish.locale, "template": wish.template}
    body = {
        "model": wish.model,
        "messages": [{"role": message.role, "content": message.content} for message in job.payload.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "user": job.caller.user,
        "metadata": {name: hint for name, hint in hints.items() if hint is not None} or None,
    }
    return {name: value for name, value in body.items() if value is not None}
