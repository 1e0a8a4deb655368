"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends
from pydantic import BaseModel, BeforeValidator, Field
from starlette.types import Send

from serve_app.api import wire
from serve_app.api.calls import Call, InCall, TheService
from serve_app.api.collected import Collected
from serve_app.api.docs import ERRORS
from serve_app.api.responses import Reply, Streamed
from serve_app.api.shapes import TextShape
from serve_app.api.uploads import Form, multipart, takes_form
from serve_app.errors import BadRequest
from serve_app.policies.pricing import usd
from serve_app.types import Constraints, Delta, Done, Event, Job, Kind, Transcription, Usage, Wish

router = APIRouter(prefix="/v1/audio", tags=["OpenAI"], responses=ERRORS)

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["word", "segment"]
PLAIN = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
STREAMED = ("json", "text")


def _primary(value: object) -> object:
    """ko-KR and KO mean ko."""
    return value.replace("_", "-").split("-")[0].lower() or None if isinstance(value, str) else value


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class TranslationForm(wire.Wire):
    model: wire.Name = Field(description="A model's id, an alias such as `whisper-1`, or `auto`.")
    prompt: Annotated[str, Field(max_length=4000)] = ""
    response_format: Format = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    user: wire.Name | None = None


class TranscriptionForm(TranslationForm):
    language: Annotated[Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None, BeforeValidator(_primary)] = Field(
        None, description="ISO 639-1, such as `ko`; left out, it is detected."
    )
    timestamp_granularities: Annotated[tuple[Granularity, ...], BeforeValidator(_several)] = ("segment",)
    stream: bool = False
    vad: bool = Field(True, description="Leave out what is no speech.")


class Duration(BaseModel):
    type: Literal["duration"] = "duration"
    seconds: float
    cost_usd: float = Field(description="US dollars, exact to nine decimals.")


class TranscriptionText(BaseModel):
    text: str
    usage: Duration


@router.post(
    "/transcriptions",
    responses={200: {"model": TranscriptionText}},
    openapi_extra=takes_form(TranscriptionForm, "file"),
)
async def create_transcription(
    form: Annotated[Form, Depends(multipart("file"))], call: InCall, service: TheService
) -> Reply:
    """What is said in a recording. `verbose_json` adds segments and, if asked for, words with their times."""
    asked = form.read(TranscriptionForm)
    words = "word" in asked.timestamp_granularities
    if words and asked.response_format != "verbose_json":
        raise BadRequest("Times of words come with response_format=verbose_json.", param="timestamp_granularities")
    if asked.stream and asked.response_format not in STREAMED:
        raise BadRequest("stream=true goes with response_format=json or text.", param="response_format")
    payload = Transcription(
        form.files["file"], asked.language, asked.prompt, asked.temperature, words=words, vad=asked.vad
    )
    job = _job(payload, asked, call, whole=not asked.stream)
    if asked.stream:
        return TranscriptStream(service.run(job), call, service.limits.heartbeat_s)
    return Transcript(service.run(job), call, asked.response_format, asked.timestamp_granularities, "transcribe")


@router.post(
    "/translations",
    responses={200: {"model": TranscriptionText}},
    openapi_extra=takes_form(TranslationForm, "file"),
)
async def create_translation(
    form: Annotated[Form, Depends(multipart("file"))], call: InCall, service: TheService
) -> Reply:
    """What is said in a recording, in English, by a model that can translate."""
    asked = form.read(TranslationForm)
    payload = Transcription(form.files["file"], None, asked.prompt, asked.temperature, translate=True)
    return Transcript(
        service.run(_job(payload, asked, call, whole=True)), call, asked.response_format, ("segment",), "translate"
    )


def _job(payload: Transcription, asked: TranslationForm, call: Call, *, whole: bool) -> Job:
    return Job(
        id=call.id,
        kind=Kind.TRANSCRIPTION,
        payload=payload,
        caller=call.caller_for(asked.user),
        wish=Wish(model=asked.model, host=call.host, no_store=call.no_store, whole=whole),
        constraints=Constraints(priority=call.caller.tier),
        traceparent=call.traceparent,
    )


class Transcript(Reply):
    """The transcript in one piece, in the form that was asked for."""

    def __init__(
        self, run: AsyncGenerator[Event], call: Call, form: Format, granularities: tuple[Granularity, ...], task: str
    ) -> None:
        super().__init__(run, TextShape(()), call)
        self.form = form
        self.granularities = granularities
        self.task = task

    async def answer(self, send: Send) -> None:
        collected = Collected()
        async with aclosing(self.run) as events:
            async for event in events:
                collected.take(event)
        self.decision, self.cache = collected.decision, collected.cache
        body, kind = self._body(collected)
        headers = {
            "content-type": kind,
            "content-length": str(len(body)),
            **self.explained(),
            "x-megacity-cost-usd": usd(collected.usage.cost_nano_usd),
        }
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _body(self, collected: Collected) -> tuple[bytes, str]:
        transcript = collected.json("transcript")
        text = collected.text.strip()
        if self.form in PLAIN:
            written = {"text": lambda: text + "\n", "srt": lambda: srt(transcript), "vtt": lambda: vtt(transcript)}
            return written[self.form]().encode(), f"{PLAIN[self.form]}; charset=utf-8"
        usage = duration(collected.usage)
        if self.form == "json":
            return orjson.dumps({"text": text, "usage": usage}), "application/json"
        return orjson.dumps(self._verbose(transcript, text) | {"usage": usage}), "application/json"

    def _verbose(self, transcript: dict[str, Any], text: str) -> dict[str, Any]:
        answer = {
            "task": self.task,
            "language": transcript["language"],
            "language_probability": transcript["language_probability"],
            "duration": transcript["duration"],
            "text": text,
            "dropped": transcript["dropped"],
        }
        if "segment" in self.granularities:
            answer["segments"] = [{"seek": 0, "tokens": [], **segment} for segment in transcript["segments"]]
        if "word" in self.granularities:
            answer["words"] = transcript["words"]
        return answer


class TranscriptStream(Streamed):
    """`transcript.text.delta` as pieces come, `transcript.text.done` at the end."""

    def __init__(self, run: AsyncGenerator[Event], call: Call, heartbeat_s: float) -> None:
        super().__init__(run, TextShape(()), call, heartbeat_s, include_usage=True)
        self._text = ""

    def _opened(self, events: list[Event]) -> Iterator[bytes]:
        return self._chunks(events)

    def _chunks(self, events: list[Event]) -> Iterator[bytes]:
        for event in events:
            match event:
                case Delta(text) if text:
                    self._text += text
                    yield _event({"type": "transcript.text.delta", "delta": text})
                case Done(usage):
                    done = {"type": "transcript.text.done", "text": self._text.strip(), "usage": duration(usage)}
                    yield _event(done)


def duration(usage: Usage) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(usage.audio_s, 3), "cost_usd": usage.cost_usd}


def srt(transcript: dict[str, Any]) -> str:
    """SubRip: numbered, with a comma before the milliseconds."""
    blocks = (
        f"{number}\n{_clock(segment['start'], ',')} --> {_clock(segment['end'], ',')}\n{_line(segment)}\n"
        for number, segment in enumerate(transcript["segments"], 1)
    )
    return "\n".join(blocks)


def vtt(transcript: dict[str, Any]) -> str:
    blocks = (
        f"{_clock(segment['start'], '.')} --> {_clock(segment['end'], '.')}\n{_line(segment)}\n"
        for segment in transcript["segments"]
    )
    return "\n".join(["WEBVTT\n", *blocks])


def _line(segment: dict[str, Any]) -> str:
    """An arrow in the text would begin a cue."""
    text: str = segment["text"]
    return text.replace("-->", "->").replace("\n", " ")


def _clock(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{milliseconds:03}"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
