"""Language models elsewhere: any server that speaks OpenAI's API, as an engine like the others.

It tries nothing twice: what failed before its first token says so by its class, and the dispatch goes on to another
candidate. Nothing of what an upstream writes about a failure is passed on, and no redirect is followed.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from deployments.upstream.address import checked_headers, checked_url
from deployments.upstream.faults import refusal
from deployments.upstream.masking import Mask, load_mask, masked
from deployments.upstream.reading import Reading
from deployments.upstream.request import Form
from deployments.upstream.sse import Events
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, EngineFailed, MegaCityError, QueueFull, Unavailable
from serve_app.types import Chat, Event, Job, Kind, Payload

if TYPE_CHECKING:
    import httpx

LARGEST_REFUSAL = 1 << 16
USAGE_S = 2.0
"""How long the usage is waited for when the answer itself is over."""
IDLE_CONNECTION_S = 15.0


class Remote(Engine):
    """Chats and completions, streamed token by token, with tools, answer formats and files if the model takes them.

    What the upstream says of its usage is checked; where it says nothing, or what cannot be, tokens are estimated and
    `Done` says so.
    """

    class Options(EngineOptions):
        plain_http: bool = False
        """Allow `http://` to a host that is named and not addressed; else only to loopback and private addresses."""
        base_url: str
        """Up to the version, such as `https://api.example.com/v1`."""
        model: str = Field(min_length=1)
        """The model's name there."""
        api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
        """The environment variable that holds the key. The key itself is in no profile."""
        key_header: str = Field(default="authorization", pattern=r"^[A-Za-z-]{1,64}$")
        """Where the key goes; as a bearer token in `authorization`, and as it is in any other."""
        headers: dict[str, str] = Field(default_factory=dict)
        connect_s: float = Field(default=5.0, gt=0)
        first_token_s: float = Field(default=30.0, gt=0)
        """From the request to the first piece of the answer."""
        between_tokens_s: float = Field(default=15.0, gt=0)
        total_s: float = Field(default=300.0, gt=0)
        max_connections: int = Field(default=64, ge=1)
        max_tokens: int = Field(default=1024, ge=1)
        """Length of an answer when the request does not say."""
        length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
        max_choices: int = Field(default=8, ge=1)
        pool: str = Field(default="remote", min_length=1)
        """What routing calls this way out of the house; zones that stay in other pools never take it."""
        region: str = ""
        """Where the upstream is."""
        mask: str | None = None
        """`module:function`: what every text passes before it leaves."""

        @field_validator("base_url")
        @classmethod
        def _url(cls, url: str, info: ValidationInfo) -> str:
            return checked_url(url, bool(info.data.get("plain_http")))

        @field_validator("headers")
        @classmethod
        def _headers(cls, headers: dict[str, str]) -> dict[str, str]:
            return checked_headers(headers)

    options: Options
    kinds = frozenset({Kind.CHAT, Kind.COMPLETION})

    _client: "httpx.AsyncClient"
    _form: Form
    _mask: Mask | None

    @classmethod
    def whereabouts(cls, options: EngineOptions) -> tuple[str, str] | None:
        assert isinstance(options, Remote.Options)
        return options.pool, options.region

    async def load(self) -> None:
        """Raises `ConfigError` if there is no key or no mask of that name."""
        import httpx

        options = self.options
        self._form = Form(options.model, options.max_tokens, options.length_field)
        self._mask = load_mask(options.mask) if options.mask else None
        always = {"content-type": "application/json", "accept-encoding": "identity"}
        self._client = httpx.AsyncClient(
            headers={**always, **options.headers, **self._key()},
            timeout=httpx.Timeout(None, connect=options.connect_s, pool=options.connect_s),
            limits=httpx.Limits(
                max_connections=options.max_connections,
                max_keepalive_connections=options.max_connections,
                keepalive_expiry=IDLE_CONNECTION_S,
            ),
            follow_redirects=False,
            trust_env=False,  # else variables of the environment could send prompts through a proxy
        )

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        _refuse_unusable(job.payload, self.options.max_choices)
        payload = await self._ready(job.payload)
        answer = Reading(payload, self._form.limit(payload))
        try:
            async with aclosing(self._pieces(payload, answer)) as pieces:
                async for data in pieces:
                    for event in answer.take(data):
                        yield event
        except MegaCityError:
            if not answer.complete:
                raise
        yield answer.done(time.perf_counter() - started)

    async def close(self) -> None:
        if hasattr(self, "_client"):  # else load() has failed
            await self._client.aclose()

    def _key(self) -> dict[str, str]:
        name = self.options.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name, "").strip()
        if not key.isascii() or not key.isprintable() or not key:
            raise ConfigError(f"api_key_env: the environment has no usable {name}; set it where the engine starts")
        header = self.options.key_header
        return {header: f"Bearer {key}" if header.lower() == "authorization" else key}

    async def _ready(self, payload: Payload) -> Payload:
        """The payload as it may leave."""
        return await asyncio.to_thread(masked, payload, self._mask) if self._mask else payload

    async def _body(self, payload: Payload) -> bytes:
        if payload.attachments:
            return await asyncio.to_thread(self._form.body, payload)
        return self._form.body(payload)

    async def _pieces(self, payload: Payload, answer: Reading) -> AsyncGenerator[bytes]:
        """The data of the upstream's events until the last one; every failure as an error of ours."""
        import httpx

        body = await self._body(payload)
        phases = _Phases(self.options)
        try:
            async with AsyncExitStack() as stack:
                reply = await self._reply(stack, self._form.path(payload), body, phases)
                events, chunks = Events(), reply.aiter_raw()
                stack.push_async_callback(chunks.aclose)  # type: ignore[attr-defined]  # it is a generator
                while not answer.ended:
                    async with asyncio.timeout_at(phases.until(answer)):
                        chunk = await anext(chunks, b"")
                    if not chunk:
                        return
                    for data in events.take(chunk):
                        phases.moved()
                        yield data
        except httpx.PoolTimeout as error:
            raise QueueFull("All connections to the remote model are in use.") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _lost("The remote model was silent for too long.", answer) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _lost("The connection to the remote model broke.", answer) from error
        except ValueError as error:
            raise EngineFailed("The remote model sent something that is no answer.") from error

    async def _reply(self, stack: AsyncExitStack, path: str, body: bytes, phases: "_Phases") -> "httpx.Response":
        """A reply that promises an answer; raises what any other one means."""
        async with asyncio.timeout_at(phases.first):
            streamed = self._client.stream("POST", self.options.base_url + path, content=body)
            reply = await stack.enter_async_context(streamed)
            if reply.status_code != 200:
                raise refusal(reply.status_code, reply.headers, await _beginning(reply))
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream" or "content-encoding" in reply.headers:
            raise EngineFailed("The remote model sent something that is no stream.")
        return reply


class RemoteChat(Remote):
    """The same for upstreams that take chats only, as OpenAI's own do for their newer models."""

    kinds = frozenset({Kind.CHAT})


class _Phases:
    """When to give up: each phase of an answer has its own patience. Times are those of the event loop."""

    def __init__(self, options: Remote.Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._moved = self._loop.time()
        self._last = self._moved + options.total_s
        self.first = min(self._moved + options.first_token_s, self._last)

    def moved(self) -> None:
        self._moved = self._loop.time()

    def until(self, answer: Reading) -> float:
        if answer.complete:
            return min(self._moved + USAGE_S, self._last)
        between = self._moved + self._options.between_tokens_s
        return min(between, self._last) if answer.begun else min(between, self.first)


def _lost(what: str, answer: Reading) -> MegaCityError:
    """Before the first token somebody else may answer; after it this was the end."""
    return EngineFailed(what) if answer.begun else Unavailable(f"{what} Please try again.")


async def _beginning(reply: "httpx.Response") -> bytes:
    body = b""
    async for chunk in reply.aiter_raw():
        body += chunk
        if len(body) > LARGEST_REFUSAL:
            break
    return body[:LARGEST_REFUSAL]


def _refuse_unusable(payload: Payload, max_choices: int) -> None:
    """What every upstream would refuse in words of its own."""
    wish = payload.sampling
    if wish.max_tokens is not None and wish.max_tokens < 1:
        raise BadRequest("max_tokens must be at least 1.", param="max_tokens")
    if not 1 <= wish.n <= max_choices:
        raise BadRequest(f"n must be from 1 to {max_choices}.", param="n")
    if isinstance(payload, Chat):
        if not any(m.content.strip() or m.media or m.tool_calls for m in payload.messages):
            raise BadRequest("There is nothing to answer; send some text.", param="messages")
    elif not payload.text:
        raise BadRequest("The prompt is empty; send some text.", param="prompt")
