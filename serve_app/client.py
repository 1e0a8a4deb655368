"""The typed Python client: the same methods over HTTP and, inside a Ray cluster, over a deployment handle.

    async with MegaCity("http://127.0.0.1:8000", key) as city:
        answer = await city.chat("347 더하기 85는 얼마예요?", task="math_tutor")

`MegaCity.from_app()` needs no address: any Ray application or driver of the cluster can use it. `SyncMegaCity` has the
same methods for plain scripts. Errors are those of `serve_app.errors`, whichever way they came; nothing is retried.
"""

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, Unpack

import httpx

from serve_app import errors
from serve_app.errors import DeadlineExceeded, EngineFailed, MegaCityError, QueueFull, Unavailable
from serve_app.policies.pricing import NANO
from serve_app.policies.routing import route_header
from serve_app.types import (
    Caller,
    Chat,
    Decision,
    Delta,
    Done,
    Job,
    Kind,
    Message,
    Priority,
    Routed,
    Sampling,
    Usage,
    Wish,
)

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 10.0

Messages = str | Sequence[Message | Mapping[str, str]]


class Hints(TypedDict, total=False):
    """What the router may be told; everything may be left to it."""

    model: str
    zone: str | None
    task: str | None
    locale: str | None
    template: str | None


class Options(Hints, total=False):
    """How to choose tokens, and for whom. `stop` holds the texts that end an answer."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: Sequence[str]
    user: str | None


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers, and why in one short line."""

    model: str
    version: str
    route: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `finish_reason` is `length` if it was cut at `max_tokens`."""

    text: str
    model: str
    version: str
    route: str
    usage: Usage
    finish_reason: str
    request_id: str


Run = AsyncGenerator[Answerer | Delta | Done]


class Stream:
    """The pieces of an answer as they come; `answer` is the whole, once the last piece has been read.

    Leaving early stops the model: at once in an `async with` block, else when the stream is collected.
    """

    def __init__(self, request_id: str, run: Run) -> None:
        self._request_id = request_id
        self._run = run
        self._texts: list[str] = []
        self._answerer: Answerer | None = None
        self._done: Done | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for told in self._run:
            match told:
                case Answerer():
                    self._answerer = told
                case Delta(text) if text:
                    self._texts.append(text)
                    return text
                case Done():
                    self._done = told
        raise StopAsyncIteration

    @property
    def answer(self) -> Answer:
        if self._done is None or self._answerer is None:
            raise RuntimeError("the answer is not complete; read the stream to its end first")
        who = self._answerer
        text, finish = "".join(self._texts), self._done.finish[0]
        return Answer(text, who.model, who.version, who.route, self._done.usage, finish, self._request_id)

    async def aclose(self) -> None:
        await self._run.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class MegaCity:
    """A service, over HTTP. `timeout_s` is the longest silence that is waited out, in seconds."""

    def __init__(self, base_url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = 600.0) -> None:
        self._way: _Way = _Http(base_url, key, timeout_s)

    @classmethod
    def from_app(cls, app: str = "megacity") -> Self:
        """The service that runs as Ray Serve application `app` of this process's cluster."""
        city = cls.__new__(cls)
        city._way = _Handle(_app_handle(app))
        return city

    async def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        """The answer to a user's text, or to a conversation. What is left out is left to the router and the model."""
        async with self.stream(messages, **options) as pieces:
            async for _ in pieces:
                pass
        return pieces.answer

    def stream(self, messages: Messages, **options: Unpack[Options]) -> Stream:
        """As `chat`, piece by piece."""
        job = _job(messages, **options)
        return Stream(job.id, self._way.run(job))

    async def route(self, messages: Messages, **hints: Unpack[Hints]) -> Decision:
        """Where `chat` would go and why, without running it."""
        return await self._way.decide(_job(messages, **hints))

    async def models(self) -> list[str]:
        """Every name that `model` may hold."""
        return await self._way.models()

    async def aclose(self) -> None:
        await self._way.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class SyncMegaCity:
    """`MegaCity` for scripts without an event loop: the same methods, each waited for."""

    def __init__(self, base_url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = 600.0) -> None:
        self._city = MegaCity(base_url, key, timeout_s=timeout_s)
        self._loop = asyncio.Runner()

    @classmethod
    def from_app(cls, app: str = "megacity") -> Self:
        city = cls.__new__(cls)
        city._city, city._loop = MegaCity.from_app(app), asyncio.Runner()
        return city

    def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        return self._loop.run(self._city.chat(messages, **options))

    def stream(self, messages: Messages, **options: Unpack[Options]) -> "SyncStream":
        return SyncStream(self._city.stream(messages, **options), self._loop)

    def route(self, messages: Messages, **hints: Unpack[Hints]) -> Decision:
        return self._loop.run(self._city.route(messages, **hints))

    def models(self) -> list[str]:
        return self._loop.run(self._city.models())

    def close(self) -> None:
        self._loop.run(self._city.aclose())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SyncStream:
    """`Stream` for a plain `for` loop."""

    def __init__(self, stream: Stream, loop: asyncio.Runner) -> None:
        self._stream = stream
        self._loop = loop

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            return self._loop.run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    @property
    def answer(self) -> Answer:
        return self._stream.answer

    def close(self) -> None:
        self._loop.run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _job(
    messages: Messages,
    *,
    model: str = "auto",
    zone: str | None = None,
    task: str | None = None,
    locale: str | None = None,
    template: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] = (),
    user: str | None = None,
) -> Job:
    if isinstance(messages, str):
        messages = (Message("user", messages),)
    turns = tuple(m if isinstance(m, Message) else Message(m["role"], m["content"]) for m in messages)
    return Job(
        id=f"req_{uuid.uuid4().hex}",
        kind=Kind.CHAT,
        payload=Chat(turns, Sampling(max_tokens, temperature, top_p, seed, tuple(stop))),
        caller=Caller(user=user),
        wish=Wish(model, zone, task, locale, template),
    )


class _Way(Protocol):
    """How requests get to a service."""

    def run(self, job: Job) -> Run: ...
    async def decide(self, job: Job) -> Decision: ...
    async def models(self) -> list[str]: ...
    async def aclose(self) -> None: ...


class _Http:
    """Answers are always streamed: what is silent for long is then dead and not busy."""

    def __init__(self, base_url: str, key: str | None, timeout_s: float) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        self._client = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout)

    async def run(self, job: Job) -> Run:
        body = {**_body(job), "stream": True, "stream_options": {"include_usage": True}}
        async with self._answered("POST", "/v1/chat/completions", json=body, headers={"x-request-id": job.id}) as reply:
            model, _, version = reply.headers.get("x-megacity-model", "").rpartition("@")
            yield Answerer(model, version, reply.headers.get("x-megacity-route", ""))
            async with contextlib.aclosing(_told(server_sent(reply.aiter_bytes()))) as told:
                async for event in told:
                    yield event

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
                    raise _refusal(reply, await reply.aread())
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


class _Handle:
    """What comes over a handle are batches, and errors are items of them, not raised ones."""

    def __init__(self, handle: "DeploymentHandle") -> None:
        self._handle = handle

    async def run(self, job: Job) -> Run:
        with _cluster_errors():
            batches = self._handle.options(stream=True, method_name="run").remote(job)
            try:
                async for batch in batches:
                    for item in batch:
                        match item:
                            case MegaCityError():
                                raise item
                            case Routed(decision):
                                yield Answerer(decision.model, decision.version, route_header(decision))
                            case Delta() | Done():
                                yield item
            finally:
                batches.cancel()

    async def decide(self, job: Job) -> Decision:
        with _cluster_errors():
            decision: Decision = await self._handle.options(method_name="decide").remote(job)
        return decision

    async def models(self) -> list[str]:
        with _cluster_errors():
            names: list[str] = await self._handle.options(method_name="models").remote()
        return names

    async def aclose(self) -> None:
        """A handle holds nothing open."""


def _app_handle(app: str) -> "DeploymentHandle":
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_app_handle(app)
    except RayServeException as error:
        raise Unavailable(f"This Ray cluster has no Serve application '{app}'. Is the service running?") from error


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    """Errors of ours as they were raised; Ray's as the nearest of ours."""
    from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

    try:
        yield
    except (RequestCancelledError, TaskCancelledError) as error:
        raise asyncio.CancelledError from error
    except BackPressureError as error:
        raise QueueFull("The service has no room for another request. Please try again.") from error
    except (RayActorError, DeploymentUnavailableError) as error:
        raise Unavailable("The service was lost. Please try again.") from error
    except RayTaskError as error:
        if isinstance(error.cause, MegaCityError):
            raise error.cause from None
        raise EngineFailed("The service failed while answering.") from error
    except RayError as error:
        raise Unavailable("The service could not be reached. Please try again.") from error


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


async def _told(events: AsyncIterator[bytes]) -> AsyncGenerator[Delta | Done]:
    """An OpenAI stream as events; raises if it fails, or stops before it says that it is done."""
    usage, finish = Usage(), None
    async for data in events:
        if data == b"[DONE]" and finish:
            yield Done(usage, (finish,))
            return
        chunk = _chunk(data)
        if found := chunk.get("usage"):
            usage = _usage(found)
        for choice in chunk.get("choices", ()):
            finish = choice.get("finish_reason") or finish
            if text := choice.get("delta", {}).get("content"):
                yield Delta(text)
    raise EngineFailed("The stream ended before the answer was complete.")


def _chunk(data: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise EngineFailed("The stream holds something else than an answer.") from error
    if not isinstance(chunk, dict):
        raise EngineFailed("The stream holds something else than an answer.")
    if isinstance(told := chunk.get("error"), dict):
        raise _rebuilt(told, None)
    return chunk


def _usage(found: Mapping[str, Any]) -> Usage:
    cached = (found.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    cost = round(found.get("cost_usd", 0) * NANO)
    return Usage(found["prompt_tokens"], found["completion_tokens"], cached, cost_nano_usd=cost)


_CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, MegaCityError)]
_BY_CODE = {c.code: c for c in _CLASSES}
_BY_STATUS = {c.status: c for c in reversed(_CLASSES)}  # of several with one status the first, which is the widest


def _refusal(reply: httpx.Response, body: bytes) -> MegaCityError:
    seconds = reply.headers.get("retry-after", "")
    try:
        found = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict):  # not our envelope: something else listens there, or stands in between
        found = {"message": f"The service answered {reply.status_code}."}
    return _rebuilt(found, reply.status_code, int(seconds) if seconds.isdecimal() else None)


def _rebuilt(found: Mapping[str, Any], status: int | None, retry_after_s: int | None = None) -> MegaCityError:
    """The error that an envelope was made from; of a stream there is no status."""
    code = found.get("code")
    kind = _BY_CODE.get(code, EngineFailed)
    if status not in (None, kind.status):
        kind = _BY_STATUS.get(status, MegaCityError)
    error = kind(str(found.get("message", "")), param=found.get("param"), code=code, retry_after_s=retry_after_s)
    error.status = status or kind.status
    return error
