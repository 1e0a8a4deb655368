"""The client itself."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self, TypeVar, Unpack

from serve_app.client import shaping
from serve_app.client.chat import Hints, Messages, Options, Stream, chat_job, new_id
from serve_app.client.failures import understood
from serve_app.client.files import File, media, media_or_none, name_of
from serve_app.client.handle import Handle, app_handle
from serve_app.client.http import Http
from serve_app.client.results import (
    Advice,
    Answer,
    DanceScore,
    Document,
    DocumentAnswer,
    PronunciationScore,
    Sound,
    Source,
    Transcript,
)
from serve_app.client.way import Found, Way
from serve_app.errors import BadRequest
from serve_app.types import (
    Coaching,
    Dance,
    Decision,
    Documents,
    Embedding,
    Job,
    Kind,
    Payload,
    Pronunciation,
    Retrieval,
    Speech,
    Transcription,
    Wish,
)

DEFAULT_URL = "http://127.0.0.1:8000"
KINDS: Mapping[type[Payload], Kind] = MappingProxyType(
    {
        Transcription: Kind.TRANSCRIPTION,
        Pronunciation: Kind.PRONUNCIATION,
        Dance: Kind.DANCE,
        Speech: Kind.SPEECH,
        Embedding: Kind.EMBEDDING,
        Documents: Kind.DOCUMENTS,
        Retrieval: Kind.RETRIEVAL,
        Coaching: Kind.COACHING,
    }
)


T = TypeVar("T")


class MegaCity:
    """A service, over HTTP. `timeout_s` is the longest silence that is waited out, in seconds."""

    def __init__(self, base_url: str = DEFAULT_URL, key: str | None = None, *, timeout_s: float = 600.0) -> None:
        self._way: Way = Http(base_url, key, timeout_s)

    @classmethod
    def from_app(cls, app: str = "megacity") -> Self:
        """The service that runs as Ray Serve application `app` of this process's cluster."""
        city = cls.__new__(cls)
        city._way = Handle(app_handle(app))
        return city

    async def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        """The answer to a user's text, or to a conversation. What is left out is left to the router and the model."""
        async with self.stream(messages, **options) as pieces:
            async for _ in pieces:
                pass
        return pieces.answer

    def stream(self, messages: Messages, **options: Unpack[Options]) -> Stream:
        """As `chat`, piece by piece."""
        job = chat_job(messages, **options)
        return Stream(job.id, self._way.run(job))

    async def route(self, messages: Messages, **hints: Unpack[Hints]) -> Decision:
        """Where `chat` would go and why, without running it."""
        return await self._way.decide(chat_job(messages, **hints))

    async def transcribe(
        self, audio: File, language: str | None = None, words: bool = False, *, model: str = "auto"
    ) -> Transcript:
        """What is said in a recording. `language` is found out if it is left out; `words` asks for their times."""
        return await self._ask(Transcription(media(audio), language, words=words), model, shaping.transcript)

    async def score_pronunciation(
        self, audio: File, reference: str, language: str = "ko", *, model: str = "auto"
    ) -> PronunciationScore:
        """How well `reference` was read, in Korean (`ko`) or English (`en`)."""
        return await self._ask(Pronunciation(media(audio), reference, language), model, shaping.pronunciation)

    async def score_dance(
        self, video: File, reference: File, mirror: str = "auto", language: str = "ko", *, model: str = "auto"
    ) -> DanceScore:
        """How a dance differs from another. `mirror` is `auto`, `yes` or `no`; `language` that of the feedback."""
        return await self._ask(Dance(media(video), media(reference), mirror, language=language), model, shaping.dance)

    async def speak(
        self,
        text: str,
        voice: str | None = None,
        style: str = "neutral",
        language: str | None = None,
        speed: float = 1.0,
        format: str = "wav",
        *,
        model: str = "auto",
    ) -> Sound:
        """The text as a sound file. `format` is `wav`, `mp3`, `opus`, `aac`, `flac` or `pcm`."""
        return await self._ask(Speech(text, voice, style, language, speed, format), model, shaping.sound(format))

    async def embed(
        self, texts: Sequence[str], dimensions: int | None = None, *, model: str = "auto"
    ) -> list[list[float]]:
        """One vector of length 1 per text; `dimensions` keeps only so many numbers of each."""
        if isinstance(texts, str) or not texts:
            raise BadRequest("'texts' should be a list with at least one text.", param="texts")
        return await self._ask(Embedding(tuple(texts), dimensions), model, shaping.vectors(len(texts)))

    async def add_document(
        self,
        file: File | None = None,
        *,
        text: str = "",
        name: str | None = None,
        collection: str = "default",
        model: str = "auto",
    ) -> Document:
        """Keep a document, to be asked about from now on: a file (text, Markdown, PDF) or a text."""
        if (file is None) == (not text):
            raise BadRequest("Give either a file or a text.", param="file")
        title = name or (name_of(file) if file is not None else "") or "document"
        payload = Documents(collection, "add", name=title, content=text, file=media_or_none(file))
        return await self._ask(payload, model, shaping.document)

    async def delete_document(self, document_id: str, *, collection: str = "default", model: str = "auto") -> None:
        """Remove a document with its passages. It cannot be undone."""
        await self._ask(Documents(collection, "delete", document_id=document_id), model, lambda *_: None)

    async def ask(
        self, query: str, top_k: int = 5, *, collection: str = "default", model: str = "auto"
    ) -> DocumentAnswer:
        """An answer from at most `top_k` passages of the documents, which it cites."""
        return await self._ask(Retrieval(collection, query, top_k), model, shaping.cited)

    async def coach(
        self,
        question: str,
        video: File | None = None,
        image: File | None = None,
        reference: File | None = None,
        *,
        model: str = "auto",
    ) -> Advice:
        """What to improve in a movement or a pose: against `reference`, or its left against its right."""
        payload = Coaching(question, media_or_none(image), media_or_none(video), media_or_none(reference))
        return await self._ask(payload, model, shaping.advice)

    async def _ask(self, payload: Payload, model: str, shape: Callable[[Found, Source], T]) -> T:
        job = Job(new_id(), KINDS[type(payload)], payload, wish=Wish(model))
        found = await self._way.ask(job)
        with understood():
            return shape(found, found.source(job))

    async def models(self) -> list[str]:
        """Every name that `model` may hold."""
        return await self._way.models()

    async def aclose(self) -> None:
        await self._way.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
