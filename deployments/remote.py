"""Language models elsewhere: any server that speaks OpenAI's API, as an engine like the others.

It tries nothing twice: what failed before its first token says so by its class, and the dispatch goes on to another
candidate. Nothing of what an upstream writes about a failure is passed on, and no redirect is followed.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from deployments.upstream.address import checked_headers, checked_url
from deployments.upstream.faults import refusal
from deployments.upstream.masking import Mask, load_mask, masked
from deployments.upstream.patience import Patience
from deployments.upstream.reading import Reading, estimate
from deployments.upstream.request import Form
from deployments.upstream.sse import Events
from deployments.upstream.vectors import vectors_of
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, EngineFailed, MegaCityError, QueueFull, Unavailable
from serve_app.types import Artifact, Chat, Done, Embedding, Event, Job, Kind, Payload, Usage

if TYPE_CHECKING:
    import httpx

LARGEST_REFUSAL = 1 << 16
LARGEST_VECTORS = 1 << 26
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
        body = await self._body(payload)
        patience = Patience(self.options.first_token_s, self.options.between_tokens_s, self.options.total_s)
        with _failures(answer):
            async with AsyncExitStack() as stack:
                stack.callback(patience.close)
                reply = await self._reply(stack, self._form.path(payload), body, patience)
                events, chunks = Events(), reply.aiter_raw()
                stack.push_async_callback(chunks.aclose)  # type: ignore[attr-defined]  # it is a generator
                while chunk := await patience.next(chunks):
                    for data in () if answer.ended else events.take(chunk):
                        yield data
                        if answer.complete:
                            patience.over(answer.ended)
                        elif answer.begun:
                            patience.begun()

    async def _reply(self, stack: AsyncExitStack, path: str, body: bytes, patience: Patience) -> "httpx.Response":
        """A reply that promises an answer; raises what any other one means."""
        async with asyncio.timeout_at(patience.first):
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


class RemoteEmbeddings(Remote):
    """Vectors of texts. `first_token_s` is the patience for the whole answer."""

    kinds = frozenset({Kind.EMBEDDING})

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        payload = await self._ready(job.payload)
        if not isinstance(payload, Embedding) or not payload.inputs or not all(payload.inputs):
            raise BadRequest("There is nothing to embed; send texts that are not empty.", param="input")
        body = self._form.embedding_body(payload)
        with _failures(None):
            async with asyncio.timeout(self.options.first_token_s):
                async with self._client.stream("POST", f"{self.options.base_url}/embeddings", content=body) as reply:
                    if reply.status_code != 200:
                        raise refusal(reply.status_code, reply.headers, await _beginning(reply))
                    answer = await _beginning(reply, LARGEST_VECTORS)
        vectors, read = await asyncio.to_thread(vectors_of, answer, payload)
        yield Artifact("embeddings", "application/octet-stream", vectors)
        usage = Usage(estimate(payload) if read is None else read, engine_s=time.perf_counter() - started)
        yield Done(usage, estimated=read is None)


@contextmanager
def _failures(answer: Reading | None) -> Iterator[None]:
    """What breaks on the way, as an error of ours. Before the first token somebody else may answer."""
    import httpx

    def lost(what: str) -> MegaCityError:
        return EngineFailed(what) if answer and answer.begun else Unavailable(f"{what} Please try again.")

    try:
        yield
    except httpx.PoolTimeout as error:
        raise QueueFull("All connections to the remote model are in use.") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise lost("The remote model was silent for too long.") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise lost("The connection to the remote model broke.") from error
    except ValueError as error:
        raise EngineFailed("The remote model sent something that is no answer.") from error


async def _beginning(reply: "httpx.Response", most: int = LARGEST_REFUSAL) -> bytes:
    body = bytearray()
    async for chunk in reply.aiter_raw():
        body += chunk
        if len(body) > most:
            break
    return bytes(body[:most])


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
