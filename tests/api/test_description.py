"""What the service publishes about itself is true, and can be read behind a firewall."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app.api import http
from tests.api.stub import Stub
from tests.api.test_bad_requests import CHATS, TEXTS

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
DYNAMIC = {"stream_options", "metadata.zone", "metadata.task", "metadata.template", "logit_bias"}
"""Fields whose bad values only the running service can tell."""


@pytest.fixture
def document(stub: Stub) -> dict[str, Any]:
    described: dict[str, Any] = http.build(stub.service()).openapi()
    return described


def refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
        yield from (ref for value in node.values() for ref in refs(value))
    elif isinstance(node, list):
        yield from (ref for value in node for ref in refs(value))


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (operation for path in document["paths"].values() for operation in path.values())


def test_every_schema_is_one_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert {ref.removeprefix("#/components/schemas/") for ref in refs(document)} <= set(schemas)


def test_every_operation_says_how_its_errors_look(document: dict[str, Any]) -> None:
    for operation in operations(document):
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/ErrorEnvelope"}
        assert "422" not in operation["responses"]
    assert len({operation["operationId"] for operation in operations(document)}) == len(list(operations(document)))


def test_every_route_is_described(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == {
        "/v1/models",
        "/v1/models/{model}",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/api/v1/kzone/voice/analyze",
        "/api/v1/kzone/tts",
        "/api/v1/objects/{key}",
        "/api/v1/kzone/dance/analyze",
        "/api/v1/kzone/dance/references",
        "/api/v1/kzone/dance/references/{reference_id}",
        "/api/v1/rag/documents",
        "/api/v1/rag/documents/{document_id}",
        "/api/v1/rag/query",
        "/api/v1/ai/route",
        "/api/v1/ai/multimodal",
        "/api/v1/finops/costs",
        "/api/v1/admin/keys",
        "/api/v1/admin/keys/{key_id}",
        "/api/v1/admin/keys/{key_id}/rotate",
        "/api/v1/admin/models",
        "/api/v1/admin/models/{model}/activate",
        "/api/v1/admin/models/{model}/canary",
        "/api/v1/admin/models/{model}/rollback",
        "/healthz",
        "/readyz",
    }


@pytest.mark.parametrize(
    ("method", "path", "described", "body"),
    [
        ("GET", "/v1/models", "/v1/models", None),
        ("GET", "/v1/models/org/big", "/v1/models/{model}", None),
        ("POST", "/v1/chat/completions", "/v1/chat/completions", CHAT),
        ("POST", "/v1/completions", "/v1/completions", {"model": "auto", "prompt": "x"}),
        ("POST", "/api/v1/ai/route", "/api/v1/ai/route", CHAT),
        ("GET", "/healthz", "/healthz", None),
        ("GET", "/readyz", "/readyz", None),
        ("GET", "/v1/models/nobody", "/v1/models/{model}", None),
        ("POST", "/v1/completions", "/v1/completions", {}),
    ],
)
async def test_answers_are_as_described(
    raw: httpx.AsyncClient, document: dict[str, Any], method: str, path: str, described: str, body: object
) -> None:
    answer = await raw.request(method, path, json=body)
    responses = document["paths"][described][method.lower()]["responses"]
    response = responses.get(str(answer.status_code), responses["default"])
    validator(document, response["content"]["application/json"]["schema"]).validate(answer.json())


async def test_not_ready_is_as_described(raw: httpx.AsyncClient, stub: Stub, document: dict[str, Any]) -> None:
    stub.states.clear()
    schema = document["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
    validator(document, schema).validate((await raw.get("/readyz")).json())


def test_what_is_refused_is_not_described_as_right(document: dict[str, Any]) -> None:
    for name, cases in [("ChatRequest", CHATS), ("CompletionRequest", TEXTS)]:
        check = validator(document, {"$ref": f"#/components/schemas/{name}"})
        for body, param in cases:
            assert param in DYNAMIC or not check.is_valid(body), (param, body)


def test_what_is_taken_is_described_as_right(document: dict[str, Any]) -> None:
    validator(document, {"$ref": "#/components/schemas/ChatRequest"}).validate(
        CHAT | {"n": 2.0, "stop": ["a"], "tool_choice": "auto", "metadata": {"mine": "x"}, "new": [1], "seed": None}
    )


async def test_the_page_works_behind_a_firewall(raw: httpx.AsyncClient) -> None:
    page = await raw.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "//" not in page.text
    links = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(links) == 3
    for link in links:
        assert (await raw.get(link)).status_code == 200
    start = await raw.get("/docs/start.js")
    assert start.headers["content-type"].startswith("text/javascript")
    assert "//" not in start.text
    assert (await raw.get("/openapi.json")).json()["openapi"].startswith("3.1")


async def test_the_root_leads_to_the_page(raw: httpx.AsyncClient) -> None:
    answer = await raw.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"


async def test_other_routes_can_be_mounted(stub: Stub) -> None:
    async def metrics(_: object) -> PlainTextResponse:
        return PlainTextResponse("up 1")

    app = http.build(stub.service(), extra_routes=[Route("/metrics", metrics)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.get("/metrics")
    assert answer.text == "up 1"
    assert answer.headers["x-request-id"]
