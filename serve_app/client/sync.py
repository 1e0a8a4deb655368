"""The client for scripts without an event loop."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from serve_app.client.chat import Messages, Options, Stream
from serve_app.client.city import DEFAULT_URL, MegaCity
from serve_app.client.results import Answer

P = ParamSpec("P")
T = TypeVar("T")


def _waited(
    method: Callable[Concatenate[MegaCity, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["SyncMegaCity", P], T]:
    @functools.wraps(method)
    def call(self: "SyncMegaCity", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._city, *args, **kwargs))

    return call


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

    chat = _waited(MegaCity.chat)
    route = _waited(MegaCity.route)
    transcribe = _waited(MegaCity.transcribe)
    score_pronunciation = _waited(MegaCity.score_pronunciation)
    score_dance = _waited(MegaCity.score_dance)
    speak = _waited(MegaCity.speak)
    embed = _waited(MegaCity.embed)
    add_document = _waited(MegaCity.add_document)
    delete_document = _waited(MegaCity.delete_document)
    ask = _waited(MegaCity.ask)
    coach = _waited(MegaCity.coach)
    models = _waited(MegaCity.models)

    def stream(self, messages: Messages, **options: Unpack[Options]) -> "SyncStream":
        return SyncStream(self._city.stream(messages, **options), self._loop)

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
