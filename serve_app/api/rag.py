"""Documents of a tenant, and questions to them.

A collection is a tenant's own: its name on this side of the door is the tenant's and the caller's together, so that no
name a caller can think of leads to another tenant's documents.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from serve_app.api import wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import Call, InCall, TheService
from serve_app.api.collected import AsJson, Collected
from serve_app.api.docs import ERRORS
from serve_app.api.responses import Reply, Streamed
from serve_app.api.runs import Feed
from serve_app.api.service import Service
from serve_app.api.shapes import TextShape
from serve_app.api.uploads import multipart, takes_form
from serve_app.policies import access
from serve_app.policies.limits import RANGES
from serve_app.types import (
    Artifact,
    Constraints,
    Delta,
    Documents,
    Done,
    Event,
    Job,
    Kind,
    Media,
    Payload,
    Retrieval,
    Routed,
    Usage,
    Wish,
)

FORM = "multipart/form-data"
UNNAMED = "document"
TOP_K = RANGES["top_k"]

router = APIRouter(prefix="/api/v1/rag", tags=["Retrieval"], responses=ERRORS)

Collection = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$", description="One of the tenant's own collections.")]
Title = Annotated[str, Field(min_length=1, max_length=int(RANGES["name"].most))]
DocumentId = Annotated[str, Path(max_length=64)]


class DocumentRequest(wire.Wire):
    text: Annotated[str, Field(min_length=1, description="Plain text or Markdown.")]
    name: Title | None = None
    collection: Collection = "default"
    model: wire.Name = "auto"


class DocumentForm(wire.Wire):
    """The fields beside the file: text in UTF-8, UTF-16 or CP949, Markdown, or PDF."""

    name: Title | None = None
    collection: Collection = "default"
    model: wire.Name = "auto"


class QueryRequest(wire.Wire):
    query: Annotated[str, Field(min_length=1, max_length=int(RANGES["query"].most))]
    top_k: Annotated[wire.Count, Field(le=int(TOP_K.most))] = 5
    collection: Collection = "default"
    answer: bool = Field(True, description="Without it, only the passages are found.")
    stream: bool | None = None
    model: wire.Name = "auto"
    user: wire.Name | None = None


class DocumentCard(BaseModel):
    """A document that is kept. Adding the same bytes to a collection again gives the same one."""

    id: str
    object: Literal["rag.document"] = "rag.document"
    name: str
    sha256: str
    bytes: int
    characters: int
    passages: int
    created: int


class DocumentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[DocumentCard]
    has_more: bool = Field(description="There are older ones: ask again with `after`, the last id of this page.")


class DocumentGone(BaseModel):
    id: str
    object: Literal["rag.document"] = "rag.document"
    deleted: Literal[True] = True


class Citation(BaseModel):
    """A passage: characters `start` to `end` of the document's text; `page` counts from 1, in a PDF."""

    index: int
    document_id: str
    name: str
    text: str
    heading: str
    start: int
    end: int
    page: int | None
    score: float = Field(description="How probable it is that the passage answers the question, from 0 to 1.")
    cited: bool = Field(description="The answer refers to it, as `[index]`.")


class RagUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: float


class RagAnswer(BaseModel):
    id: str
    object: Literal["rag.answer"] = "rag.answer"
    answer: str | None = Field(description="With references like [1]; null if only passages were asked for.")
    found: bool = Field(description="Whether the documents hold an answer. If not, `answer` says so.")
    citations: list[Citation]
    model: str | None
    usage: RagUsage


@dataclass(frozen=True, slots=True)
class Added:
    """A document as it came, in whichever of the two ways."""

    name: str | None
    collection: str
    model: str
    text: str = ""
    file: Media | None = None


async def added(request: Request) -> AsyncGenerator[Added]:
    """A dependency: the document of a form or of a JSON body. Raises what is to be answered."""
    if not request.headers.get("content-type", "").casefold().startswith(FORM):
        body = await json_body(DocumentRequest)(request)
        yield Added(body.name, body.collection, body.model, body.text)
        return
    async with asynccontextmanager(multipart("file"))(request) as form:
        fields = form.read(DocumentForm)
        file_name = form.names["file"][: int(RANGES["name"].most)]
        yield Added(fields.name or file_name or None, fields.collection, fields.model, file=form.files["file"])


def _either() -> dict[str, Any]:
    as_json, as_form = takes(DocumentRequest)["requestBody"], takes_form(DocumentForm, "file")["requestBody"]
    return {"requestBody": {"required": True, "content": {**as_json["content"], **as_form["content"]}}}


@router.post("/documents", responses={200: {"model": DocumentCard}}, openapi_extra=_either())
async def add_document(document: Annotated[Added, Depends(added)], call: InCall, service: TheService) -> AsJson:
    """Keep a document. It can be asked about as soon as this is answered."""
    payload = Documents(
        _collection(call, document.collection),
        "add",
        name=document.name or UNNAMED,
        content=document.text,
        file=document.file,
    )
    return _as_json(service, call, payload, document.model, lambda got: _card(got.json("document")))


@router.get("/documents", responses={200: {"model": DocumentList}})
async def list_documents(
    call: InCall,
    service: TheService,
    collection: Collection = "default",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> AsJson:
    """The documents of a collection, newest first."""
    payload = Documents(_collection(call, collection), "list", document_id=after)
    return _as_json(service, call, payload, "auto", _listed)


@router.delete("/documents/{document_id}", responses={200: {"model": DocumentGone}})
async def delete_document(
    document_id: DocumentId, call: InCall, service: TheService, collection: Collection = "default"
) -> AsJson:
    """Remove a document with its passages, from every index. It cannot be undone."""
    payload = Documents(_collection(call, collection), "delete", document_id=document_id)
    gone = {"id": document_id, "object": "rag.document", "deleted": True}
    return _as_json(service, call, payload, "auto", lambda _: gone)


@router.post(
    "/query",
    responses={
        200: {
            "model": RagAnswer,
            "content": {
                "text/event-stream": {
                    "schema": {
                        "type": "string",
                        "description": "With `stream`: `rag.answer.chunk` objects with a `delta`, then the whole "
                        '`rag.answer`, or `{"error": …}`, and at last `[DONE]`.',
                    }
                }
            },
        }
    },
    openapi_extra=takes(QueryRequest),
)
async def query_documents(
    body: Annotated[QueryRequest, Depends(json_body(QueryRequest))], call: InCall, service: TheService
) -> Reply:
    """An answer from the documents, with the passages that it rests on, or the word that they hold none."""
    payload = Retrieval(_collection(call, body.collection), body.query, body.top_k, body.answer)
    job = _job(call, Kind.RETRIEVAL, payload, body.model, not body.stream, body.user)
    if body.stream:
        return StreamedAnswer(service.run(job), call, service.limits.heartbeat_s, body.answer)
    return AsJson(service.run(job), call, lambda got: _answer(got, call, body.answer))


class StreamedAnswer(Streamed):
    """The answer as it is written, and at the end once more as a whole, with its citations."""

    def __init__(self, run: AsyncGenerator[Event], call: Call, heartbeat_s: float, wants_answer: bool) -> None:
        super().__init__(run, TextShape(()), call, heartbeat_s, include_usage=False)
        self.collected = Collected()
        self.wants_answer = wants_answer

    async def _first(self, feed: Feed) -> list[Event]:
        """An artifact carries something for the caller too."""
        while events := await feed.take():
            for event in events:
                if isinstance(event, Routed):
                    self.collected.take(event)
                    self.decision, self.cache = event.decision, event.cache
            if any(isinstance(event, Delta | Artifact | Done) for event in events):
                return [event for event in events if not isinstance(event, Routed)]
        return []

    def _opened(self, events: list[Event]) -> Iterator[bytes]:
        yield from self._chunks(events)

    def _chunks(self, events: list[Event]) -> Iterator[bytes]:
        for event in events:
            self.collected.take(event)
            match event:
                case Delta(text) if text:
                    yield _sse({"id": self.call.id, "object": "rag.answer.chunk", "delta": text})
                case Done():
                    yield _sse(_answer(self.collected, self.call, self.wants_answer))


def _sse(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _as_json(service: Service, call: Call, payload: Documents, model: str, shape: Any) -> AsJson:
    return AsJson(service.run(_job(call, Kind.DOCUMENTS, payload, model, whole=True)), call, shape)


def _job(call: Call, kind: Kind, payload: Payload, model: str, whole: bool, user: str | None = None) -> Job:
    return Job(
        id=call.id,
        kind=kind,
        payload=payload,
        caller=call.caller_for(user),
        wish=Wish(model=model, host=call.host, no_store=call.no_store, whole=whole),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )


def _collection(call: Call, name: str) -> str:
    return access.collection_of(call.caller.tenant, name)


def _card(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, "object": "rag.document"}


def _listed(got: Collected) -> dict[str, Any]:
    page = got.json("documents")
    return {"object": "list", "data": [_card(one) for one in page["documents"]], "has_more": page["has_more"]}


def _answer(got: Collected, call: Call, wants_answer: bool) -> dict[str, Any]:
    return {
        "id": call.id,
        "object": "rag.answer",
        "answer": got.text if wants_answer else None,
        **got.json("citations"),
        "model": got.decision.model if got.decision else None,
        "usage": _usage(got.usage),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cost_usd": usage.cost_usd,
    }
