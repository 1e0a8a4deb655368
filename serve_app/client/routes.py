"""Every kind of job as a request over HTTP, and its answer in the terms of the engine that gave it."""

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from serve_app.client.stream import object_of
from serve_app.errors import EngineFailed
from serve_app.policies.pricing import NANO
from serve_app.types import (
    Coaching,
    Dance,
    Documents,
    Embedding,
    Job,
    Media,
    Payload,
    Pronunciation,
    Retrieval,
    Speech,
    Transcription,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Form:
    """Fields and files; what is `None` is left out. `name` is what the caller calls its file."""

    fields: Mapping[str, str | tuple[str, ...] | None]
    files: Mapping[str, Media | None]
    name: str = "file"


@dataclass(frozen=True, slots=True)
class Request:
    """With a form, with a JSON body, or with `query` alone."""

    path: str
    body: Mapping[str, Any] | None = None
    form: Form | None = None
    method: str = "POST"
    query: Mapping[str, str] = field(default_factory=dict)


def request(job: Job) -> Request:
    model, payload = job.wish.model, job.payload
    match payload:
        case Speech():
            return Request("/v1/audio/speech", _speech(payload, model))
        case Embedding(inputs, dimensions):
            body = {"model": model, "input": list(inputs), "encoding_format": "base64", "dimensions": dimensions}
            return Request("/v1/embeddings", _given(body))
        case Documents():
            return _documents(payload, model)
        case Retrieval(collection, query, top_k, answer):
            asked = {"query": query, "top_k": top_k, "collection": collection, "answer": answer, "model": model}
            return Request("/api/v1/rag/query", asked)
        case _:
            path, form = _form(payload, model)
            return Request(path, form=form)


def answer(payload: Payload, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text and the artifacts that a JSON answer was made of."""
    match payload:
        case Transcription():
            return body["text"], {"transcript": {"words": None, **body}}
        case Pronunciation():
            return "", {"pronunciation": body}
        case Dance():
            return "", {"analysis": body}
        case Embedding():
            return "", {"embeddings": b"".join(base64.b64decode(row["embedding"]) for row in body["data"])}
        case Retrieval():
            return body["answer"] or "", {"citations": body}
        case Coaching():
            return body["response"], {"motion": body["motion"]}
        case _:
            return "", {"document": body}


async def sound(events: AsyncIterator[bytes]) -> tuple[bytes, Usage]:
    """A stream of sound put together; raises if it fails, or stops before it says that it is done."""
    pieces = []
    async for data in events:
        event = object_of(data)
        match event.get("type"):
            case "speech.audio.delta":
                pieces.append(base64.b64decode(event["audio"]))
            case "speech.audio.done":
                used = event["usage"]
                cost = round(used["cost_usd"] * NANO)
                usage = Usage(audio_s=used["audio_s"], characters=used["characters"], cost_nano_usd=cost)
                return b"".join(pieces), usage
    raise EngineFailed("The stream ended before the sound was complete.")


def _speech(speech: Speech, model: str) -> dict[str, Any]:
    return _given(
        {
            "model": model,
            "input": speech.input,
            "voice": speech.voice,
            "style": speech.style,
            "language": speech.language,
            "speed": speech.speed,
            "response_format": speech.format,
            "stream_format": "sse",
        }
    )


def _documents(payload: Documents, model: str) -> Request:
    path, where = "/api/v1/rag/documents", {"collection": payload.collection}
    if payload.action == "delete":
        return Request(f"{path}/{quote(payload.document_id or '', safe='')}", method="DELETE", query=where)
    fields = {"name": payload.name or None, "model": model, **where}
    if payload.file is not None:
        return Request(path, form=Form(fields, {"file": payload.file}, payload.name or "document"))
    return Request(path, _given({**fields, "text": payload.content}))


def _form(payload: Payload, model: str) -> tuple[str, Form]:
    fields: dict[str, str | tuple[str, ...] | None]
    files: dict[str, Media | None]
    match payload:
        case Transcription(audio, language, words=words):
            times = ("segment", "word") if words else ("segment",)
            fields = {"response_format": "verbose_json", "timestamp_granularities[]": times, "language": language}
            files = {"file": audio}
            path = "/v1/audio/transcriptions"
        case Pronunciation(audio, reference, language):
            fields, files = {"reference_text": reference, "language": language}, {"file": audio}
            path = "/api/v1/kzone/voice/analyze"
        case Dance(Media() as video, Media() as shown, mirror, _, language):
            fields, files = {"mirror": mirror, "language": language}, {"video": video, "reference": shown}
            path = "/api/v1/kzone/dance/analyze"
        case Coaching(question, image, video, Media() | None as shown):
            fields, files = {"text": question}, {"image": image, "video": video, "reference": shown}
            path = "/api/v1/ai/multimodal"
        case _:
            raise TypeError(f"There is no route for {type(payload).__name__} as it is.")
    return path, Form({"model": model, **fields}, files)


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
