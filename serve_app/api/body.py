"""From the bytes of a request to a checked wire model."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from serve_app.api import validation
from serve_app.api.calls import service_of
from serve_app.errors import BadRequest, TooLarge, WrongMedia

Model = TypeVar("Model", bound=BaseModel)


def json_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that reads a JSON body as `model`, or raises what is to be answered."""

    async def parse(request: Request) -> Model:
        raw = await read(request, service_of(request).limits.max_body_bytes)
        return _checked(model, _parsed(raw, request.headers.get("content-type", "")))

    return parse


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """The part of an operation's description that `json_body` cannot give by itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read(request: Request, limit: int) -> bytes:
    """The whole body, or `TooLarge` as soon as it is known to be longer than `limit` bytes."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongMedia("Compressed bodies are not taken; send the body as it is.")
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not (declared.isdecimal() and int(declared[:18]) > limit):
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                break
        else:
            return bytes(body)
    raise TooLarge(f"The body is larger than the {limit} bytes taken here. Send less, or ask the operator for more.")


def _parsed(raw: bytes, content_type: str) -> object:
    """Whatever a client calls its body, it is taken if it is JSON: curl, for one, says that it is a form."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if content_type and "json" not in content_type:
            raise WrongMedia("Send a JSON object with 'Content-Type: application/json'.") from None
        if not raw:
            raise BadRequest("The body is empty. Send a JSON object.", code="invalid_json") from None
        raise BadRequest(
            f"The body is not valid JSON (line {error.lineno}, column {error.colno}). "
            "It should be a JSON object in UTF-8, without NaN or Infinity and not deeply nested.",
            code="invalid_json",
        ) from None


def _checked(model: type[Model], data: object) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True)
        raise validation.bad_request(found, data) from None
