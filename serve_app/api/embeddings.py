"""`POST /v1/embeddings`."""

import base64
from array import array
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from serve_app.api import wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import Call, InCall, TheService
from serve_app.api.collected import AsJson, Collected
from serve_app.api.docs import ERRORS
from serve_app.errors import BadRequest
from serve_app.policies.limits import Limits
from serve_app.types import Constraints, Embedding, Job, Kind, Wish

ARTIFACT = "embeddings"

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=ERRORS)


def _as_text(value: object) -> object:
    """Token ids mean something else in every model's vocabulary, so they are refused rather than misread."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, int | list):
        raise PydanticCustomError("tokens", "should be text: token ids differ between models, so send the text itself")
    return value


class EmbeddingRequest(wire.Wire):
    model: wire.Name = Field(description='A model\'s id, an alias, or "auto" to let the router choose.')
    input: Annotated[wire.OneOrMany[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_text)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: wire.Count | None = Field(
        None, description="Keep this many numbers of each vector, and make it of length 1 again."
    )
    user: wire.Name | None = None
    metadata: wire.Metadata | None = None


class EmbeddingVector(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="With `base64`: little-endian float32.")


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    cost_usd: float = Field(description="US dollars, exact to nine decimals.")


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingVector]
    model: str
    usage: EmbeddingUsage


@router.post("/embeddings", responses={200: {"model": EmbeddingList}}, openapi_extra=takes(EmbeddingRequest))
async def create_embeddings(
    body: Annotated[EmbeddingRequest, Depends(json_body(EmbeddingRequest))], call: InCall, service: TheService
) -> AsJson:
    """One vector per text. A text that is longer than the model can read is cut; `usage` counts what was read."""
    job = _job(body, call, service.limits)
    texts, as_text = len(job.payload.texts), body.encoding_format == "base64"
    return AsJson(service.run(job), call, lambda collected: _answer(collected, texts, as_text))


def _job(body: EmbeddingRequest, call: Call, limits: Limits) -> Job:
    inputs = (body.input,) if isinstance(body.input, str) else tuple(body.input)
    if len(inputs) > limits.max_embedding_inputs:
        raise BadRequest(f"'input' should be at most {limits.max_embedding_inputs} texts.", param="input")
    hints = body.metadata or wire.Metadata()
    return Job(
        id=call.id,
        kind=Kind.EMBEDDING,
        payload=Embedding(inputs, body.dimensions),
        caller=call.caller_for(body.user),
        wish=Wish(
            model=body.model, zone=hints.zone, locale=hints.locale, host=call.host, no_store=call.no_store, whole=True
        ),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )


def _answer(collected: Collected, texts: int, as_text: bool) -> dict[str, Any]:
    usage = collected.usage
    return {
        "object": "list",
        "data": list(_vectors(collected.artifacts[ARTIFACT], texts, as_text)),
        "model": collected.decision.model if collected.decision else None,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "total_tokens": usage.total_tokens,
            "cost_usd": usage.cost_usd,
        },
    }


def _vectors(data: bytes, texts: int, as_text: bool) -> Iterator[dict[str, Any]]:
    size = len(data) // texts
    for index in range(texts):
        row = data[index * size : (index + 1) * size]
        embedding = base64.b64encode(row).decode("ascii") if as_text else _floats(row)
        yield {"object": "embedding", "index": index, "embedding": embedding}


def _floats(row: bytes) -> list[float]:
    """The row's numbers; the engines and this machine agree on little-endian, which is all that runs them."""
    return array("f", row).tolist()
