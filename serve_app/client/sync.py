"""The client for scripts without an event loop."""

import asyncio
from typing import Self, Unpack

from serve_app.client.city import DEFAULT_URL, Hints, MegaCity, Messages, Options, Stream
from serve_app.client.results import Answer
from serve_app.types import Decision


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
