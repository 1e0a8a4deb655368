"""The OpenAI-compatible routes."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from serve_app.api import answers, jobs, parts, wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import Call, InCall, TheService, call_of, service_of
from serve_app.api.docs import ERRORS, answers_with
from serve_app.api.responses import Reply, Streamed, Whole
from serve_app.api.runs import in_turn
from serve_app.api.service import Service
from serve_app.api.shapes import ChatShape, Shape, TextShape
from serve_app.errors import ModelNotFound
from serve_app.types import Completion, Job

OURSELVES = "megacity"

read_chat = json_body(wire.ChatRequest)
router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=ERRORS)


@router.get("/models")
async def list_models(request: Request, service: TheService) -> answers.ModelList:
    """Every name that `model` may hold, also of models that are asleep."""
    return answers.ModelList(data=_cards(service, request.app.state.started))


@router.get("/models/{model:path}")
async def get_model(model: str, request: Request, service: TheService) -> answers.ModelCard:
    for card in _cards(service, request.app.state.started):
        if card.id.casefold() == model.casefold():
            return card
    raise ModelNotFound("There is no such model. GET /v1/models lists those that there are.", param="model")


@router.post(
    "/chat/completions",
    responses=answers_with(answers.ChatCompletion, "chat.completion.chunk"),
    openapi_extra=takes(wire.ChatRequest),
)
async def create_chat_completion(
    body: Annotated[wire.ChatRequest, Depends(read_chat)], call: InCall, service: TheService
) -> Reply:
    with ExitStack() as files:
        media = await parts.spooled(body, service.spool, service.limits, files)
        job = jobs.chat_job(body, call, service.limits, media)
        reply = _reply(service, [job], body, ChatShape(job.payload.sampling.n), call)
        reply.files = files.pop_all()
    return reply


@router.post(
    "/completions",
    responses=answers_with(answers.TextCompletion, "text_completion"),
    openapi_extra=takes(wire.CompletionRequest),
)
async def create_completion(
    body: Annotated[wire.CompletionRequest, Depends(json_body(wire.CompletionRequest))],
    call: InCall,
    service: TheService,
) -> Reply:
    several = jobs.completion_jobs(body, call, service.limits)
    return _reply(service, several, body, TextShape(_echoes(several, bool(body.echo))), call)


async def chat(request: Request) -> Reply:
    """The same, for who has found this route already."""
    return await create_chat_completion(await read_chat(request), call_of(request), service_of(request))


def _reply(service: Service, several: Sequence[Job], body: wire.Generation, shape: Shape, call: Call) -> Reply:
    run = in_turn(service.run, several)
    if not body.stream:
        return Whole(run, shape, call)
    options = body.stream_options or wire.StreamOptions()
    return Streamed(run, shape, call, service.limits.heartbeat_s, bool(options.include_usage))


def _echoes(several: Sequence[Job], wanted: bool) -> list[str]:
    payloads = [job.payload for job in several if isinstance(job.payload, Completion)]
    return [payload.prompt if wanted else "" for payload in payloads for _ in range(payload.sampling.n)]


def _cards(service: Service, created: int) -> list[answers.ModelCard]:
    """Every name that the router knows. Nobody can say when a model was made; since when it is served will do."""
    owners = {name: model.owned_by for name, model in service.router.catalogue.items()}
    names = service.router.names()
    return [answers.ModelCard(id=name, created=created, owned_by=owners.get(name, OURSELVES)) for name in names]
