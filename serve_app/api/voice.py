"""`POST /api/v1/kzone/voice/analyze`: how well a text was pronounced."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from serve_app.api import wire
from serve_app.api.calls import InCall, TheService
from serve_app.api.collected import AsJson, Collected
from serve_app.api.docs import ERRORS
from serve_app.api.uploads import Form, multipart, takes_form
from serve_app.types import Constraints, Job, Kind, Pronunciation, Wish

router = APIRouter(prefix="/api/v1/kzone", tags=["K-Zone"], responses=ERRORS)


class VoiceRequest(wire.Wire):
    reference_text: Annotated[str, Field(min_length=1, max_length=4000, description="What was to be read.")]
    language: Literal["ko", "en"] = "ko"
    model: wire.Name = Field("auto", description="A model's id, an alias, or `auto`.")
    user: wire.Name | None = None


class WordDetail(BaseModel):
    word: str = Field(description="What was said; empty if the word is missing.")
    reference: str = Field(description="The word of the reference; empty if the word is extra.")
    status: Literal["correct", "substituted", "missing", "extra"]
    start: float | None
    end: float | None
    confidence: float = Field(description="How sure the model is of what it heard, 0 to 1.")
    accuracy: float = Field(description="0 to 100.")
    syllables: list[dict[str, Any]] | None = Field(
        None, description="Korean: each syllable as it sounds, with its letters."
    )
    phones: list[dict[str, Any]] | None = Field(None, description="English: each sound.")


class Fluency(BaseModel):
    speech_s: float
    words_per_minute: float | None
    syllables_per_second: float | None = Field(description="Without the pauses.")
    pauses: list[dict[str, float]]
    pause_s: float


class VoiceAnalysis(BaseModel):
    transcription: str
    accuracy: float = Field(description="0 to 100.")
    language: str
    duration_s: float
    word_details: list[WordDetail]
    fluency: Fluency
    basis: Literal["sounds", "words"] = Field(
        description="What was compared: sounds as heard, or those of recognised words."
    )
    notes: list[str]
    model: str | None


@router.post(
    "/voice/analyze", responses={200: {"model": VoiceAnalysis}}, openapi_extra=takes_form(VoiceRequest, "file")
)
async def analyze_voice(form: Annotated[Form, Depends(multipart("file"))], call: InCall, service: TheService) -> AsJson:
    """The reading in `file` against `reference_text`: a score, and which sound of which word went wrong."""
    asked = form.read(VoiceRequest)
    job = Job(
        id=call.id,
        kind=Kind.PRONUNCIATION,
        payload=Pronunciation(form.files["file"], asked.reference_text, asked.language),
        caller=call.caller_for(asked.user),
        wish=Wish(model=asked.model, host=call.host, no_store=call.no_store, whole=True),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )
    return AsJson(service.run(job), call, _answer)


def _answer(collected: Collected) -> dict[str, Any]:
    model = collected.decision.model if collected.decision else None
    return {**collected.json("pronunciation"), "model": model}
