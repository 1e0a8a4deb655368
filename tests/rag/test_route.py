"""The routes with the real engines behind them."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import uvicorn

from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.calls import Call
from serve_app.api.rag import _collection
from serve_app.api.service import Service
from serve_app.policies.access import AccessRules
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Health, Model, Router
from serve_app.policies.tables import RoutingTables
from serve_app.types import Caller, Event, Job, Kind, Routed
from tests.rag.conftest import HEART, RULES, Build

DOCUMENTS = Model("documents", "documents", kinds=frozenset({Kind.DOCUMENTS, Kind.RETRIEVAL}))
HEALTH: Mapping[str, Health] = {"documents": "ready"}


@pytest.fixture
async def url(build: Build) -> AsyncIterator[str]:
    engine = (await build()).engine
    router = Router(RoutingTables(default="documents"), {DOCUMENTS.id: DOCUMENTS}, Templates())

    async def run(job: Job) -> AsyncGenerator[Event]:
        yield Routed(router.decide(job, HEALTH)[0].decision)
        async for event in engine.run(job):
            yield event

    app = http.build(Service(run, router, lambda: HEALTH, access=Access(AccessRules(anonymous=True))))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1/rag"
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def test_a_document_from_its_upload_to_its_end(client: httpx.AsyncClient) -> None:
    added = await client.post("/documents", files={"file": ("규정.md", RULES.encode(), "text/markdown")})
    assert added.status_code == 200, added.text
    document = added.json()
    assert document["name"] == "규정.md"
    assert document["object"] == "rag.document"
    assert document["bytes"] == len(RULES.encode())
    answer = (await client.post("/query", json={"query": "책은 한 번에 몇 권 빌릴 수 있나요?"})).json()
    assert answer["found"]
    assert "일곱 권" in answer["answer"]
    assert answer["citations"][0]["document_id"] == document["id"]
    assert answer["model"] == "documents"
    assert (await client.get("/documents")).json() == {"object": "list", "data": [document], "has_more": False}
    gone = await client.delete(f"/documents/{document['id']}")
    assert gone.json() == {"id": document["id"], "object": "rag.document", "deleted": True}
    assert (await client.delete(f"/documents/{document['id']}")).status_code == 404
    assert not (await client.post("/query", json={"query": "책은 한 번에 몇 권 빌릴 수 있나요?"})).json()["found"]


async def test_text_in_the_body_and_collections(client: httpx.AsyncClient) -> None:
    await client.post("/documents", json={"text": HEART, "name": "body", "collection": "biology"})
    question = {"query": "Where does gas exchange take place?"}
    assert not (await client.post("/query", json=question)).json()["found"]
    answer = (await client.post("/query", json={**question, "collection": "biology"})).json()
    assert "alveoli" in answer["answer"]
    assert (await client.get("/documents", params={"collection": "biology"})).json()["data"][0]["name"] == "body"
    passages = (await client.post("/query", json={**question, "collection": "biology", "answer": False})).json()
    assert passages["answer"] is None
    assert passages["citations"]


async def test_an_answer_as_a_stream(client: httpx.AsyncClient) -> None:
    await client.post("/documents", json={"text": HEART})
    body = {"query": "Where does gas exchange take place?", "stream": True}
    for extra in ({}, {"answer": False}):
        answer = await client.post("/query", json={**body, **extra})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-megacity-model"].startswith("documents@")
        events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        whole = json.loads(events[-2])
        said = "".join(json.loads(event)["delta"] for event in events[:-2])
        assert whole["object"] == "rag.answer"
        assert whole["answer"] == (None if extra else said)
        assert whole["citations"]


@pytest.mark.parametrize(
    ("path", "request_", "status", "param"),
    [
        ("/query", {"json": {"query": ""}}, 400, "query"),
        ("/query", {"json": {"query": " "}}, 400, "query"),
        ("/query", {"json": {"query": "x" * 5000}}, 400, "query"),
        ("/query", {"json": {"query": "x", "top_k": 0}}, 400, "top_k"),
        ("/query", {"json": {"query": "x", "top_k": 51}}, 400, "top_k"),
        ("/query", {"json": {"query": "x", "collection": "../x"}}, 400, "collection"),
        ("/query", {"json": {"query": "x", "stream": True, "top_k": 51}}, 400, "top_k"),
        ("/documents", {"json": {}}, 400, "text"),
        ("/documents", {"json": {"text": ""}}, 400, "text"),
        ("/documents", {"json": {"text": " "}}, 400, "text"),
        ("/documents", {"files": {"file": ("a.txt", b"")}}, 400, "file"),
        ("/documents", {"files": {"file": ("a.txt", b"\x00\x01")}}, 415, "file"),
        ("/documents", {"files": {"other": ("a.txt", b"x")}}, 400, None),
        ("/documents", {"files": {"file": ("a.txt", b"x")}, "data": {"collection": "a b"}}, 400, "collection"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, path: str, request_: dict[str, Any], status: int, param: str | None
) -> None:
    answer = await client.post(path, **request_)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_no_name_of_a_collection_leads_to_another_tenant() -> None:
    pairs = [("a", "b"), ("a:b", "c"), ("a", "b:c"), ("1:a", "b"), ("", "a"), ("a", "")]
    names = {_collection(Call("id", "", None, caller=Caller(tenant=tenant)), name) for tenant, name in pairs}
    assert len(names) == len(pairs)
