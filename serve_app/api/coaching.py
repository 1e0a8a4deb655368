"""Questions about a picture or a movement."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from serve_app.api import answers, wire
from serve_app.api.calls import Call, InCall, TheService
from serve_app.api.collected import AsJson, Collected
from serve_app.api.docs import ERRORS
from serve_app.api.responses import Reply, usage_dict
from serve_app.api.uploads import Form, multipart, takes_form
from serve_app.types import Coaching, Constraints, Job, Kind, Wish

router = APIRouter(prefix="/api/v1/ai", tags=["Platform"], responses=ERRORS)


class Question(wire.Wire):
    """The fields beside the files `image`, `video` and `reference`."""

    text: Annotated[str, Field(min_length=1, max_length=2_000)]
    model: wire.Name = "auto"
    user: wire.Name | None = None


class Coached(BaseModel):
    response: str
    motion: dict[str, Any] = Field(description="What was measured: score, joints, moments, feedback; docs/dance.md.")
    model: str
    usage: answers.Usage


@router.post(
    "/multimodal",
    responses={200: {"model": Coached}},
    openapi_extra=takes_form(Question, optional=("image", "video", "reference")),
)
async def explain_movement(
    form: Annotated[Form, Depends(multipart(optional=("image", "video", "reference")))],
    call: InCall,
    service: TheService,
) -> Reply:
    """What to improve in a movement: against `reference`, or its left against its right."""
    job = _job(form.read(Question), form, call)
    return AsJson(service.run(job), call, _coached)


def _job(question: Question, form: Form, call: Call) -> Job:
    files = form.files
    return Job(
        id=call.id,
        kind=Kind.COACHING,
        payload=Coaching(question.text, files.get("image"), files.get("video"), files.get("reference")),
        caller=call.caller_for(question.user),
        wish=Wish(model=question.model, host=call.host, no_store=call.no_store, whole=True),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )


def _coached(found: Collected) -> dict[str, Any]:
    return {
        "response": found.text.strip(),
        "motion": found.json("motion"),
        "model": found.decision.model if found.decision else None,
        "usage": usage_dict(found.usage),
    }
