"""Documents and questions to them: hybrid retrieval with answers that cite the passages they rest on."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, EngineFailed
from serve_app.types import (
    Artifact,
    Chat,
    Delta,
    Documents,
    Done,
    Embedding,
    Event,
    Job,
    Kind,
    Payload,
    Progress,
    Retrieval,
    Sampling,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deployments.retrieval.chunks import Passage
    from deployments.retrieval.reading import Bounds, Content
    from deployments.retrieval.store import Document, Found, NewPassage, Store

JSON = "application/json"
CANDIDATES = 50  # passages that each half of the search brings
AT_ONCE = 64  # passages that are embedded as one job
READABLE = 0.2  # share of Latin letters from which on a vector of such an encoder says something
RELATED = 0.5  # a passage is cited beside the answer's own if it reaches this part of the threshold


class Retriever(Engine):
    """Keeps collections of documents and answers questions to them.

    A collection belongs to whoever the door says; nothing of one is ever seen from another. Adding the same bytes to
    a collection again is the same document. What is acknowledged is committed.

    `answerer: extractive` answers with the best sentences of the passages, word for word. `llm` has the engine named
    `explain` write the answer; it must be able to read some thousand tokens. Either says so when nothing fits.
    """

    class Options(EngineOptions):
        url: str = ""
        """SQLAlchemy URL of SQLite or of PostgreSQL with pgvector; left out, `documents.db` in the service's folder."""
        vectors: str = "all-minilm-l6-v2"
        """What `embed` is, prefixes included. Change it together with the encoder: vectors of two don't compare."""
        reads: Literal["latin", "all"] = "latin"
        """Scripts that the encoder was trained on. What it cannot read is found by its terms alone."""
        query_prefix: str = ""
        passage_prefix: str = ""
        """What the encoder wants before a question and before a passage: e5 models "query: " and "passage: "."""
        cosine_floor: float = Field(default=0.0, ge=0, lt=1)
        """The cosine that this encoder gives to texts with nothing in common: some 0.7 for e5 models, whose training
        temperature is low. What is above it is spread over 0 to 1."""
        answerer: Literal["extractive", "llm"] = "extractive"
        threshold: float = Field(default=0.5, ge=0, le=1)
        """The relevance that the best passage must have, or else the answer is that nothing was found."""
        passage_characters: int = Field(default=800, ge=100, le=20_000)
        overlap_characters: int = Field(default=120, ge=0)
        max_file_bytes: int = Field(default=32 * 2**20, ge=1)
        max_characters: int = Field(default=1_000_000, ge=1)
        """Of a document's text; some 1,500 passages."""
        max_pages: int = Field(default=2_000, ge=1)
        pdf_seconds: int = Field(default=30, ge=1)
        pdf_memory_mb: int = Field(default=768, ge=128)
        cache_mb: int = Field(default=256, ge=1)
        """Vectors kept in memory, for SQLite: 1.5 KB for a passage of 384 dimensions."""
        page_documents: int = Field(default=100, ge=1)
        """Documents that one list shows."""
        max_answer_tokens: int = Field(default=512, ge=1)
        context_characters: int = Field(default=6_000, ge=100)
        """How much of the passages the language model is shown."""

    options: Options
    kinds = frozenset({Kind.DOCUMENTS, Kind.RETRIEVAL})
    needs: ClassVar[Mapping[str, Kind]] = {"embed": Kind.EMBEDDING}
    may_need: ClassVar[Mapping[str, Kind]] = {"explain": Kind.CHAT}

    _store: "Store"

    async def load(self) -> None:
        """Raises ConfigError when the store was filled with another encoder's vectors, or nobody can explain."""
        if self.options.answerer == "llm" and "explain" not in self.handlers:
            raise ConfigError("needs.explain: the answerer 'llm' needs a language model; name an engine that chats")
        await asyncio.to_thread(self._load)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        """Usage is this engine's own; what the encoder and the language model use is their own hosts' to count."""
        async with aclosing(self._answer(job)) as events:
            async for event in events:
                yield event

    async def close(self) -> None:
        if hasattr(self, "_store"):  # else load() has failed
            await asyncio.to_thread(self._store.close)

    def _load(self) -> None:
        from deployments.retrieval.store import Store

        url = self.options.url or f"sqlite:///{_home() / 'documents.db'}"
        self._store = Store(url, self.options.vectors, self.options.cache_mb * 2**20)

    def _answer(self, job: Job) -> AsyncGenerator[Event]:
        match job.payload:
            case Documents(action="add") as payload:
                return self._add(job, payload)
            case Documents(action="list") as payload:
                return self._list(payload)
            case Documents(action="delete") as payload:
                return self._delete(payload)
            case Retrieval() as payload:
                return self._ask(job, payload)
        raise BadRequest("'action' should be one of add, list and delete.", param="action")

    async def _add(self, job: Job, payload: Documents) -> AsyncGenerator[Event]:
        from deployments.retrieval.reading import read

        content = await read(payload, self._bounds())
        sha256 = payload.file.sha256 if payload.file else _sha256(payload.content)
        document_id = "doc_" + _sha256(f"{payload.collection}\0{sha256}")[:32]
        document = await asyncio.to_thread(self._store.find, payload.collection, document_id)
        if document is None:
            cut = await asyncio.to_thread(self._cut, content.text)
            vectors: dict[int, NDArray[np.float32]] = {}
            readable = [at for at, passage in enumerate(cut) if self._reads(passage.indexed) >= READABLE]
            for start in range(0, len(readable), AT_ONCE):
                part = readable[start : start + AT_ONCE]
                texts = [self.options.passage_prefix + cut[at].indexed for at in part]
                vectors |= dict(zip(part, await self._embed(job, f"embed.{start}", texts), strict=True))
                yield Progress((start + len(part)) / len(readable), "embedded")
            document = _document(document_id, payload, sha256, content, len(cut))
            document = await asyncio.to_thread(self._keep, payload.collection, document, cut, vectors, content)
        yield Artifact("document", JSON, _json(asdict(document)))
        yield Done()

    async def _list(self, payload: Documents) -> AsyncGenerator[Event]:
        """One page, newest first; `document_id` is the last one of the page before."""
        most = self.options.page_documents
        found = await asyncio.to_thread(self._store.documents, payload.collection, payload.document_id, most + 1)
        page = {"documents": [asdict(one) for one in found[:most]], "has_more": len(found) > most}
        yield Artifact("documents", JSON, _json(page))
        yield Done()

    async def _delete(self, payload: Documents) -> AsyncGenerator[Event]:
        await asyncio.to_thread(self._store.delete, payload.collection, payload.document_id or "")
        yield Artifact("deleted", JSON, _json({"id": payload.document_id}))
        yield Done()

    async def _ask(self, job: Job, payload: Retrieval) -> AsyncGenerator[Event]:
        from deployments.retrieval import answering

        if not payload.query.strip():
            raise BadRequest("The question is empty; ask something.", param="query")
        if payload.top_k < 1:
            raise BadRequest("'top_k' must be at least 1.", param="top_k")
        passages, scores, vector = await self._retrieve(job, payload)
        if not payload.answer:
            yield _citations(passages, scores, bool(passages), set())
            yield Done()
            return
        if not scores or scores[0] < self.options.threshold:
            yield Delta(answering.UNKNOWN[answering.language(payload.query)])
            yield _citations([], [], False, set())
            yield Done()
            return
        related = sum(score >= RELATED * self.options.threshold for score in scores)
        passages, scores = passages[:related], scores[:related]
        said = ""
        writer = self._explain(job, payload, passages) if self.options.answerer == "llm" else None
        async with aclosing(writer or self._extract(job, payload, passages, vector)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    said += event.text
                    yield event
        known = answering.knows(said)
        yield _citations(passages if known else [], scores, known, answering.cited(said))
        yield Done()

    async def _retrieve(
        self, job: Job, payload: Retrieval
    ) -> "tuple[list[Found], list[float], NDArray[np.float32] | None]":
        """The `top_k` passages with their relevance, best first, and the question's vector if it has one."""
        from deployments.retrieval.ranking import rank
        from deployments.retrieval.terms import key, terms

        read = self._reads(payload.query)
        asked = [key(term) for term in terms(payload.query)]
        strengths = dict(await asyncio.to_thread(self._store.lexical, payload.collection, asked, CANDIDATES))
        cosines: dict[int, float] = {}
        vector = None
        if read >= READABLE:
            (vector,) = await self._embed(job, "embed", [self.options.query_prefix + payload.query])
            among = list(strengths)
            near = await asyncio.to_thread(self._store.nearest, payload.collection, vector, CANDIDATES, among)
            cosines = {one: self._spread(cosine) for one, cosine in near.items()}
        ranked = rank(strengths, cosines, read if read >= READABLE else 0.0)[: payload.top_k]
        found = await asyncio.to_thread(self._store.passages, [one.passage for one in ranked])
        there = [one for one in ranked if one.passage in found]
        return [found[one.passage] for one in there], [one.relevance for one in there], vector

    async def _extract(
        self, job: Job, payload: Retrieval, passages: "Sequence[Found]", vector: "NDArray[np.float32] | None"
    ) -> AsyncGenerator[Event]:
        """The best sentences, judged as passages are: by terms, and by vectors where the question has one."""
        from deployments.retrieval import answering
        from deployments.retrieval.ranking import fused

        among = answering.candidates(passages)[:AT_ONCE]
        strengths = answering.strengths(payload.query, among, passages)
        cosines = [0.0] * len(among)
        read = self._reads(payload.query) if vector is not None else 0.0
        if vector is not None:
            texts = [self.options.passage_prefix + sentence.text for sentence in among]
            cosines = [self._spread(float(vector @ one)) for one in await self._embed(job, "sentences", texts)]
        scores = [fused(strength, cosine, read) for strength, cosine in zip(strengths, cosines, strict=True)]
        text = answering.extract(among, scores)
        yield Delta(text, tokens=len(text.split()))

    def _explain(self, job: Job, payload: Retrieval, passages: "Sequence[Found]") -> AsyncGenerator[Event]:
        from deployments.retrieval import answering

        messages = answering.prompt(payload.query, passages, self.options.context_characters)
        chat = Chat(messages, Sampling(max_tokens=self.options.max_answer_tokens, temperature=0.0))
        return self.handlers["explain"](_part(job, "explain", Kind.CHAT, chat))

    async def _embed(self, job: Job, name: str, texts: Sequence[str]) -> "list[NDArray[np.float32]]":
        import numpy as np

        part = _part(job, name, Kind.EMBEDDING, Embedding(tuple(texts)))
        data = b""
        async with aclosing(self.handlers["embed"](part)) as events:
            async for event in events:
                if isinstance(event, Artifact):
                    data = event.data
        if not data:
            raise EngineFailed("The encoder gave no vectors; try again.")
        return list(np.frombuffer(data, "<f4").reshape(len(texts), -1))

    def _cut(self, text: str) -> "list[Passage]":
        from deployments.retrieval.chunks import passages

        return passages(text, self.options.passage_characters, self.options.overlap_characters)

    def _keep(
        self,
        collection: str,
        document: "Document",
        cut: "Sequence[Passage]",
        vectors: "Mapping[int, NDArray[np.float32]]",
        content: "Content",
    ) -> "Document":
        passages = [_passage(one, vectors.get(at), content) for at, one in enumerate(cut)]
        return self._store.add(collection, document, passages)

    def _reads(self, text: str) -> float:
        """How much of a text the encoder can read, from 0 to 1."""
        from deployments.retrieval.terms import share_of_latin

        return share_of_latin(text) if self.options.reads == "latin" else 1.0

    def _spread(self, cosine: float) -> float:
        return (cosine - self.options.cosine_floor) / (1 - self.options.cosine_floor)

    def _bounds(self) -> "Bounds":
        from deployments.retrieval.reading import Bounds

        o = self.options
        return Bounds(o.max_file_bytes, o.max_characters, o.max_pages, o.pdf_seconds, o.pdf_memory_mb * 2**20)


def _home() -> Path:
    """The service's folder, as the service itself finds it."""
    return Path(os.environ.get("MEGACITY_HOME") or Path.home() / ".megacity")


def _part(job: Job, name: str, kind: Kind, payload: Payload) -> Job:
    """A job of our own on behalf of `job`, for an engine that we need."""
    return replace(job, id=f"{job.id}.{name}", kind=kind, payload=payload, plan=(), model=None)


def _document(document_id: str, payload: Documents, sha256: str, content: "Content", passages: int) -> "Document":
    from deployments.retrieval.store import new_document

    size = payload.file.size if payload.file else len(payload.content.encode("utf-8", "replace"))
    return new_document(document_id, payload.name, sha256, size, len(content.text), passages)


def _passage(passage: "Passage", vector: "NDArray[np.float32] | None", content: "Content") -> "NewPassage":
    from deployments.retrieval.store import NewPassage
    from deployments.retrieval.terms import key, terms

    counted = {key(term): count for term, count in terms(passage.indexed).items()}
    page = content.page(passage.start)
    return NewPassage(passage.start, passage.end, page, passage.context, passage.text, counted, vector)


def _citations(passages: "Sequence[Found]", scores: Sequence[float], found: bool, cited: set[int]) -> Artifact:
    """`cited` are the numbers that the answer itself refers to."""
    listed = [
        {
            "index": number,
            "document_id": passage.document,
            "name": passage.name,
            "text": passage.text,
            "heading": passage.context,
            "start": passage.first,
            "end": passage.last,
            "page": passage.page,
            "score": round(score, 4),
            "cited": number in cited,
        }
        for number, (passage, score) in enumerate(zip(passages, scores, strict=False), 1)
    ]
    return Artifact("citations", JSON, _json({"found": found, "citations": listed}))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")
