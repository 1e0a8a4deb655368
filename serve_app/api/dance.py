"""Dances: references that a tenant keeps, and comparisons with them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from serve_app.api import wire
from serve_app.api.calls import Call, InCall, TheService
from serve_app.api.collected import AsJson, Collected
from serve_app.api.docs import ERRORS
from serve_app.api.runs import unfinished
from serve_app.api.service import Service
from serve_app.api.uploads import Form, multipart, takes_form
from serve_app.errors import BadRequest, Unavailable
from serve_app.services.references import Reference, References
from serve_app.types import Constraints, Dance, Job, Kind, Landmarks, Media, Payload, Pose, Wish

router = APIRouter(prefix="/api/v1/kzone/dance", tags=["Platform"], responses=ERRORS)

ReferenceId = Annotated[str, Field(min_length=1, max_length=64)]


class ReferenceForm(wire.Wire):
    """The fields beside `video`."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    model: wire.Name = "auto"
    user: wire.Name | None = None


class AnalyzeForm(wire.Wire):
    """The fields beside `video` and, unless `reference_id` is given, `reference`."""

    reference_id: ReferenceId | None = None
    mirror: Literal["auto", "yes", "no"] = Field(
        "auto", description="Whether the dance is the reference's mirror image."
    )
    keypoints: bool = Field(False, description="Answer with the landmarks of every frame too.")
    language: Literal["ko", "en"] = "ko"
    model: wire.Name = "auto"
    user: wire.Name | None = None


class ReferenceCard(BaseModel):
    reference_id: str
    object: Literal["dance.reference"] = "dance.reference"
    name: str
    frames: int = Field(description="In which the dancer was looked for.")
    duration_s: float
    created: int = Field(description="Seconds since the epoch.")


class ReferenceList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ReferenceCard]


class ReferenceGone(BaseModel):
    reference_id: str
    object: Literal["dance.reference"] = "dance.reference"
    deleted: Literal[True] = True


class JointResult(BaseModel):
    """Null for what was not seen; the trunk and the head have no angle."""

    deviation_deg: float | None = Field(
        description="The joint's angle less the reference's, on average: negative is low."
    )
    error_deg: float | None = Field(description="The same without the sign.")
    direction_deg: float | None = Field(description="How far the limb points elsewhere.")
    score: float | None
    seen: float = Field(description="Between 0 and 1.")


class MomentJoint(BaseModel):
    joint: str
    deviation_deg: float


class DanceMoment(BaseModel):
    """A second that went wrong: `start_s` to `end_s` in the reference, from `video_s` on in the video."""

    start_s: float
    end_s: float
    video_s: float
    deviation_deg: float
    late_s: float = Field(description="Against the dancer's own tempo.")
    joints: list[MomentJoint]


class DanceTempo(BaseModel):
    ratio: float = Field(description="Above 1 is faster than the reference.")
    offset_s: float = Field(description="How much later the dance begins than in the reference.")
    rhythm_s: float = Field(description="How much single moments are off, in tempo.")


class Keypoints(BaseModel):
    times: list[float]
    points: list[list[list[float]]] = Field(
        description="Per frame 33 rows: x, y as fractions of the picture, z, visibility."
    )


class DanceUsage(BaseModel):
    frames: int
    cost_usd: float


class DanceAnalysis(BaseModel):
    """What the numbers mean is in docs/dance.md."""

    score: float = Field(description="0 to 100; 50 if limbs and joints are 30 degrees off on average.")
    deviation_deg: float
    coverage: float = Field(description="How much of the reference was found in the video, from 0 to 1.")
    mirrored: bool
    tempo: DanceTempo
    joints: dict[str, JointResult]
    moments: list[DanceMoment] = Field(description="The worst first.")
    feedback: list[str] = Field(description="Sentences in the language that was asked for.")
    report: str = Field(description="The same in one line of a fixed form.")
    heatmap_url: str = Field(description="A PNG, good for as long as the file is kept.")
    keypoints: Keypoints | None
    usage: DanceUsage


@router.post("/references", openapi_extra=takes_form(ReferenceForm, "video"), responses={200: {"model": ReferenceCard}})
async def add_reference(
    form: Annotated[Form, Depends(multipart("video"))], call: InCall, service: TheService
) -> AsJson:
    """Keep a dance to compare others with. Only the dancer's joints are kept, not the video."""
    body, kept = form.read(ReferenceForm), _kept(service)
    job = _job(Kind.POSE, Pose(form.files["video"]), body, call)

    async def added(collected: Collected) -> dict[str, Any]:
        landmarks = collected.artifacts.get("landmarks")
        if landmarks is None:
            raise unfinished()
        return _card(await kept.add(call.caller.tenant, body.name, landmarks)).model_dump()

    return AsJson(service.run(job), call, added)


@router.get("/references")
async def list_references(call: InCall, service: TheService) -> ReferenceList:
    """Your references, the newest first."""
    return ReferenceList(data=[_card(each) for each in await _kept(service).list(call.caller.tenant)])


@router.delete("/references/{reference_id}")
async def delete_reference(
    reference_id: Annotated[str, Path(max_length=64)], call: InCall, service: TheService
) -> ReferenceGone:
    await _kept(service).delete(call.caller.tenant, reference_id)
    return ReferenceGone(reference_id=reference_id)


@router.post(
    "/analyze",
    openapi_extra=takes_form(AnalyzeForm, "video", optional=("reference",)),
    responses={200: {"model": DanceAnalysis}},
)
async def analyze(
    form: Annotated[Form, Depends(multipart("video", optional=("reference",)))], call: InCall, service: TheService
) -> AsJson:
    """How a dance differs from its reference: the score, what is off by how much and when, and how to get better."""
    body = form.read(AnalyzeForm)
    reference = await _reference(form, body, call, service)
    payload = Dance(form.files["video"], reference, body.mirror, body.keypoints, body.language)

    async def answer(collected: Collected) -> dict[str, Any]:
        return await _answer(collected, call, service)

    return AsJson(service.run(_job(Kind.DANCE, payload, body, call)), call, answer)


async def _reference(form: Form, body: AnalyzeForm, call: Call, service: Service) -> Media | Landmarks:
    uploaded = form.files.get("reference")
    if (uploaded is None) == (body.reference_id is None):
        raise BadRequest("Send either 'reference', a video, or 'reference_id'.", param="reference")
    if uploaded is not None:
        return uploaded
    return await _kept(service).find(call.caller.tenant, body.reference_id or "")


async def _answer(collected: Collected, call: Call, service: Service) -> dict[str, Any]:
    if not {"analysis", "heatmap"} <= collected.artifacts.keys():
        raise unfinished()
    url = await service.objects.put(call.caller.tenant, collected.artifacts["heatmap"], "image/png")
    return {
        **collected.json("analysis"),
        "heatmap_url": url,
        "keypoints": collected.json("landmarks") if "landmarks" in collected.artifacts else None,
        "usage": {"frames": collected.usage.frames, "cost_usd": collected.usage.cost_usd},
    }


def _job(kind: Kind, payload: Payload, body: ReferenceForm | AnalyzeForm, call: Call) -> Job:
    return Job(
        id=call.id,
        kind=kind,
        payload=payload,
        caller=call.caller_for(body.user),
        wish=Wish(model=body.model, host=call.host, no_store=call.no_store, whole=True),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )


def _card(reference: Reference) -> ReferenceCard:
    return ReferenceCard(
        reference_id=reference.id,
        name=reference.name,
        frames=reference.frames,
        duration_s=round(reference.duration_s, 2),
        created=reference.created_ms // 1000,
    )


def _kept(service: Service) -> References:
    if service.references is None:
        raise Unavailable("This service keeps no references.")
    return service.references
