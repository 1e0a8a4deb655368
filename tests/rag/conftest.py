import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from deployments.embeddings import Encoder
from deployments.rag import Retriever
from serve_app.types import Artifact, Delta, Documents, Done, Event, Handler, Job, Kind, Media, Retrieval
from tests.postgres import Server, running

RULES = """# 도서관 규정
## 대출
일반 회원은 한 번에 일곱 권을 2주 동안 빌립니다. 다음 예약자가 없으면 한 번, 일주일을 더 볼 수 있습니다.
## 연체
늦게 돌려주면 늦은 날수만큼 대출이 멈춥니다. 30일을 넘기면 회원 자격이 석 달 동안 정지됩니다.
## 열람실
열람실 좌석은 입구의 기계에서 네 시간씩 배정받습니다. 자리를 30분 이상 비우면 다른 사람에게 넘어갑니다.
"""
HEART = """# Human body
## Heart
The heart has four chambers; the left ventricle has the thickest wall because it pumps blood through the whole body.
## Lungs
Gas exchange takes place in about 300 million alveoli, whose walls are one cell thick.
"""


class Asked:
    """Talks to a `Retriever`."""

    def __init__(self, engine: Retriever) -> None:
        self.engine = engine
        self.events: list[Event] = []

    async def add(
        self, text: str = "", collection: str = "school", name: str = "notes", file: Media | None = None
    ) -> Any:
        await self._run(Kind.DOCUMENTS, Documents(collection, "add", name=name, content=text, file=file))
        return self.json("document")

    async def documents(self, collection: str = "school", after: str | None = None) -> Any:
        await self._run(Kind.DOCUMENTS, Documents(collection, "list", document_id=after))
        return self.json("documents")

    async def delete(self, document_id: str, collection: str = "school") -> None:
        await self._run(Kind.DOCUMENTS, Documents(collection, "delete", document_id=document_id))

    async def ask(self, query: str, collection: str = "school", top_k: int = 5, answer: bool = True) -> Any:
        """What the artifact holds, with the text as `answer`."""
        await self._run(Kind.RETRIEVAL, Retrieval(collection, query, top_k, answer))
        text = "".join(event.text for event in self.events if isinstance(event, Delta))
        return {"answer": text, **self.json("citations")}

    def json(self, name: str) -> Any:
        return next(orjson.loads(e.data) for e in self.events if isinstance(e, Artifact) and e.name == name)

    @property
    def done(self) -> Done:
        assert isinstance(self.events[-1], Done)
        return self.events[-1]

    async def _run(self, kind: Kind, payload: Documents | Retrieval) -> None:
        self.events = [event async for event in self.engine.run(Job("job", kind, payload))]


@pytest.fixture
async def encoder() -> AsyncIterator[Encoder]:
    engine = Encoder(Encoder.Options(path="models/all-minilm-l6-v2", max_tokens=256))
    await engine.load()
    yield engine
    await engine.close()


Build = Callable[..., Awaitable[Asked]]


@pytest.fixture
async def build(encoder: Encoder, tmp_path: Path) -> AsyncIterator[Build]:
    """Makes a retriever with these options, on SQLite unless they say otherwise."""
    made: list[Retriever] = []

    async def build(explain: Handler | None = None, **options: Any) -> Asked:
        url = f"sqlite:///{tmp_path}/documents.db"
        handlers = {"embed": encoder.run, **({"explain": explain} if explain else {})}
        engine = Retriever(Retriever.Options(**{"url": url} | options), handlers)
        made.append(engine)
        await engine.load()
        return Asked(engine)

    yield build
    for engine in made:
        await engine.close()


@pytest.fixture
async def rag(build: Build) -> Asked:
    return await build()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with running() as server:
        yield server


def media(path: Path, content: bytes) -> Media:
    path.write_bytes(content)
    return Media(str(path), hashlib.sha256(content).hexdigest(), len(content))
