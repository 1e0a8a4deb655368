"""Conversations, and their answers piece by piece."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Self, TypedDict

from serve_app.client.results import Answer
from serve_app.client.way import Answerer, Run
from serve_app.types import Caller, Chat, Delta, Done, Job, Kind, Message, Sampling, Wish

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


def chat_job(
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
        id=new_id(),
        kind=Kind.CHAT,
        payload=Chat(turns, Sampling(max_tokens, temperature, top_p, seed, tuple(stop))),
        caller=Caller(user=user),
        wish=Wish(model, zone, task, locale, template),
    )


def new_id() -> str:
    return f"req_{uuid.uuid4().hex}"
