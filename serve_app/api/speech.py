"""Text spoken aloud: as OpenAI's clients ask for it, and as a stored file."""

import base64
import hashlib
import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.types import Send

from serve_app.api import envelope, wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import Call, InCall, TheService
from serve_app.api.collected import AsJson, Collected
from serve_app.api.docs import ERRORS
from serve_app.api.responses import STREAM_HEADERS, Reply
from serve_app.api.runs import Feed, unfinished
from serve_app.api.service import Service
from serve_app.api.shapes import TextShape
from serve_app.errors import BadRequest
from serve_app.policies.limits import Limits
from serve_app.services.wav import with_length
from serve_app.types import Artifact, Constraints, Done, Event, Job, Kind, Routed, Speech, Usage, Wish

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
MOODS = {  # words of an instruction that name a style
    "happy": ("happy", "cheerful", "joyful", "bright", "friendly", "기쁘", "기쁜", "행복", "밝"),
    "excited": ("excited", "enthusiastic", "energetic", "신나", "신난", "들뜬"),
    "sad": ("sad", "melanchol", "sorrow", "슬프", "슬픈", "우울"),
    "angry": ("angry", "furious", "annoyed", "화난", "화나", "분노"),
    "calm": ("calm", "gentle", "soft", "sooth", "relax", "차분", "조용", "부드럽"),
    "serious": ("serious", "formal", "solemn", "진지", "엄숙"),
}

router = APIRouter(responses=ERRORS)


class VoiceId(wire.Wire):
    id: wire.Name


class Speaking(wire.Wire):
    speed: float = Field(1.0, ge=0.25, le=4)
    language: wire.Name | None = Field(None, description="Such as `ko`; found out from the text if left out.")
    user: wire.Name | None = None
    metadata: wire.Metadata | None = None


class SpeechRequest(Speaking):
    """The body of `POST /v1/audio/speech`."""

    model: wire.Name = Field(description='A model\'s id, an alias, or "auto" to let the router choose.')
    input: Annotated[str, Field(min_length=1)]
    voice: wire.Name | VoiceId | None = Field(None, description="An unknown voice is replaced by the default.")
    response_format: Format = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="How to speak: words such as 'cheerful' or 'calm' choose a style."
    )
    style: wire.Name | None = Field(None, description="A style by its name; it goes before `instructions`.")


class TtsRequest(Speaking):
    """The body of `POST /api/v1/kzone/tts`."""

    text: Annotated[str, Field(min_length=1)]
    style: wire.Name = "neutral"
    voice: wire.Name | None = None
    format: Format = "mp3"
    model: wire.Name = "auto"


class Provenance(BaseModel):
    """Who made this, so that nobody has to take it for a recording."""

    ai_generated: Literal[True] = True
    model: str
    version: str
    created: int = Field(description="Seconds since the epoch.")
    request_id: str
    sha256: str = Field(description="Of the file.")


class Spoken(BaseModel):
    audio_url: str = Field(description="A path on this service, good for as long as the file is kept.")
    duration_s: float
    media_type: str
    characters: int
    cost_usd: float
    provenance: Provenance


@router.post(
    "/v1/audio/speech",
    tags=["OpenAI"],
    openapi_extra=takes(SpeechRequest),
    responses={200: {"content": {"audio/mpeg": {"schema": {"type": "string", "contentMediaType": "audio/mpeg"}}}}},
)
async def create_speech(
    body: Annotated[SpeechRequest, Depends(json_body(SpeechRequest))], call: InCall, service: TheService
) -> Reply:
    """The text as sound, sent while it is spoken, sentence by sentence."""
    voice = body.voice.id if isinstance(body.voice, VoiceId) else body.voice
    payload = Speech(
        _bounded(body.input, "input", service.limits),
        voice,
        body.style or style_of(body.instructions or ""),
        body.language,
        body.speed,
        body.response_format,
    )
    run = service.run(_job(payload, body, body.model, call))
    return SoundEvents(run, TextShape(()), call) if body.stream_format == "sse" else Sound(run, TextShape(()), call)


@router.post(
    "/api/v1/kzone/tts", tags=["Platform"], openapi_extra=takes(TtsRequest), responses={200: {"model": Spoken}}
)
async def speak(
    body: Annotated[TtsRequest, Depends(json_body(TtsRequest))], call: InCall, service: TheService
) -> AsJson:
    """The text as a stored sound file."""
    text = _bounded(body.text, "text", service.limits)
    payload = Speech(text, body.voice, body.style, body.language, body.speed, body.format)
    job = _job(payload, body, body.model, call, whole=True)

    async def stored(collected: Collected) -> dict[str, Any]:
        return await _stored(collected, service, call)

    return AsJson(service.run(job), call, stored)


class Sound(Reply):
    """The bytes of the file as they come. Headers wait for the first; a run that fails later cuts the connection."""

    async def answer(self, send: Send) -> None:
        async with Feed(self.run) as feed:
            opening = await self._first(feed)
            headers = self.described(next(event for event in opening if isinstance(event, Artifact)))
            raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            await self.write(send, opening)
            await self.follow(feed, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def described(self, first: Artifact) -> dict[str, str]:
        return {"content-type": first.media_type, "cache-control": "no-cache", **self.explained()}

    async def follow(self, feed: Feed, send: Send) -> None:
        while events := await feed.take():
            await self.write(send, events)

    async def write(self, send: Send, events: Iterable[Event]) -> None:
        if body := b"".join(self.written(event) for event in events):
            await send({"type": "http.response.body", "body": body, "more_body": True})

    def written(self, event: Event) -> bytes:
        return event.data if isinstance(event, Artifact) else b""

    async def _first(self, feed: Feed) -> list[Event]:
        """The events up to the first that has sound in it."""
        while events := await feed.take():
            for event in events:
                if isinstance(event, Routed):
                    self.decision, self.cache = event.decision, event.cache
            if any(isinstance(event, Artifact) for event in events):
                return events
        raise unfinished()


class SoundEvents(Sound):
    """The same as server-sent events, in OpenAI's terms; a run that fails says so in one."""

    def described(self, first: Artifact) -> dict[str, str]:
        return {**super().described(first), **STREAM_HEADERS}

    async def follow(self, feed: Feed, send: Send) -> None:
        try:
            await super().follow(feed, send)
        except Exception as error:  # noqa: BLE001 - the status is out: whatever broke can only be told in the stream
            body = _event(envelope.presentable(error, self.call.id).envelope())
            await send({"type": "http.response.body", "body": body, "more_body": True})

    def written(self, event: Event) -> bytes:
        match event:
            case Artifact(_, _, data):
                return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")})
            case Done(usage):
                return _event({"type": "speech.audio.done", "usage": _used(usage)})
        return b""


def style_of(instructions: str) -> str:
    """The style whose words come first in an instruction; `neutral` if none does."""
    text = instructions.casefold()
    found = {text.find(word): mood for mood, words in MOODS.items() for word in words if word in text}
    return found[min(found)] if found else "neutral"


def _job(payload: Speech, body: Speaking, model: str, call: Call, whole: bool = False) -> Job:
    hints = body.metadata or wire.Metadata()
    return Job(
        id=call.id,
        kind=Kind.SPEECH,
        payload=payload,
        caller=call.caller_for(body.user),
        wish=Wish(
            model=model,
            zone=hints.zone,
            task=hints.task,
            locale=hints.locale,
            host=call.host,
            no_store=call.no_store,
            whole=whole,
        ),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )


def _bounded(text: str, param: str, limits: Limits) -> str:
    if len(text) > limits.max_speech_characters:
        raise BadRequest(f"'{param}' should be at most {limits.max_speech_characters} characters.", param=param)
    return text


async def _stored(collected: Collected, service: Service, call: Call) -> dict[str, Any]:
    decision, usage = collected.decision, collected.usage
    if decision is None or "audio" not in collected.artifacts:
        raise unfinished()
    media_type = collected.media_types["audio"]
    data = with_length(collected.artifacts["audio"])
    return Spoken(
        audio_url=await service.objects.put(call.caller.tenant, data, media_type),
        duration_s=round(usage.audio_s, 3),
        media_type=media_type,
        characters=usage.characters,
        cost_usd=usage.cost_usd,
        provenance=Provenance(
            model=decision.model,
            version=decision.version,
            created=int(time.time()),
            request_id=call.id,
            sha256=hashlib.sha256(data).hexdigest(),
        ),
    ).model_dump()


def _used(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "characters": usage.characters,
        "audio_s": usage.audio_s,
        "cost_usd": usage.cost_usd,
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
