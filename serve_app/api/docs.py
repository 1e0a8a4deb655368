"""The published description of the service, and a page that shows it without reaching out to the internet."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from serve_app import __version__
from serve_app.api import answers, wire
from serve_app.policies.limits import Limits

ABOUT = "One router in front of language, speech, motion, vision, media and retrieval engines."
ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": answers.ErrorEnvelope, "description": "Any error."}}
ASSETS = "/docs/assets"
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>MegaCity Serve</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, tryItOutEnabled: true
});
"""
NOTHING_FROM_ELSEWHERE = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root() -> Response:
    return RedirectResponse("/docs")


@router.get("/docs")
async def docs() -> Response:
    return HTMLResponse(PAGE, headers={"content-security-policy": NOTHING_FROM_ELSEWHERE})


@router.get("/docs/start.js")
async def start() -> Response:
    return Response(START, media_type="text/javascript")


@router.get("/openapi.json")
async def openapi(request: Request) -> dict[str, Any]:
    described: dict[str, Any] = request.app.openapi()
    return described


def assets() -> Mount:
    """Swagger UI's own files, which the package `fastapi-offline` ships."""
    return Mount(ASSETS, StaticFiles(directory=Path(str(files("fastapi_offline") / "static"))))


def answers_with(model: type[BaseModel], chunk: str) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that also streams."""
    events = f'With `stream`: events whose data is a `{chunk}` object, or `{{"error": …}}`, and at last `[DONE]`.'
    return {
        200: {"model": model, "content": {"text/event-stream": {"schema": {"type": "string", "description": events}}}}
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that the doors read by themselves."""
    document: dict[str, Any] = get_openapi(
        title="MegaCity Serve", version=__version__, summary=ABOUT, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    known = {model.__name__: model for model in _models(wire.Wire)}
    requests = [known[name] for name in _bodies(document) if name not in schemas]
    _, described = models_json_schema(
        [(model, "validation") for model in requests], ref_template="#/components/schemas/{model}"
    )
    schemas.update(described["$defs"])
    for model in requests:
        _tell_limits(described["$defs"][model.__name__]["properties"], app.state.service.limits)
    return document


def _tell_limits(properties: dict[str, Any], limits: Limits) -> None:
    """What `jobs.py` keeps as bounds, said in the terms of JSON Schema."""
    bounds = [
        ("n", "integer", "maximum", limits.max_choices),
        ("max_tokens", "integer", "maximum", limits.max_output_tokens),
        ("max_completion_tokens", "integer", "maximum", limits.max_output_tokens),
        ("messages", "array", "maxItems", limits.max_messages),
        ("prompt", "array", "maxItems", limits.max_prompts),
        ("input", "array", "maxItems", limits.max_embedding_inputs),
        ("stop", "array", "maxItems", limits.max_stop_strings),
    ]
    for name, kind, keyword, limit in bounds:
        for schema in _alternatives(properties.get(name, {})):
            if schema.get("type") == kind:
                schema[keyword] = limit


def _alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for inner in schema.get("anyOf", []) + schema.get("oneOf", []):
        yield from _alternatives(inner)


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The wire models of every door, in whichever file they stand."""
    yield base
    for model in base.__subclasses__():
        yield from _models(model)


def _bodies(document: dict[str, Any]) -> list[str]:
    """The names of the schemas that operations take as their JSON body."""
    operations = (operation for path in document["paths"].values() for operation in path.values())
    contents = (operation["requestBody"]["content"] for operation in operations if "requestBody" in operation)
    bodies = (content["application/json"]["schema"] for content in contents if "application/json" in content)
    return [schema["$ref"].rsplit("/", 1)[1] for schema in bodies if "$ref" in schema]
