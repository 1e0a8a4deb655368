"""The routes, with the real model behind them."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from deployments.speech import FasterWhisper
from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.policies.access import AccessRules
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import RoutingTables
from serve_app.types import Event, Job, Kind, Routed
from tests.speech.speaking import recording, spoken

TEXT = "The teacher found the book at school."


class House:
    def __init__(self, engine: FasterWhisper) -> None:
        self.engine = engine
        model = Model(
            "nano-whisper", "ears", version="1", kinds=frozenset({Kind.TRANSCRIPTION}), context_tokens=1_000_000
        )
        tables = RoutingTables(default="nano-whisper", aliases={"whisper-1": "auto"})
        self.router = Router(tables, {"nano-whisper": model}, Templates())

    def service(self) -> Service:
        access = Access(AccessRules(anonymous=True))
        return Service(self.run, self.router, lambda: {"ears": "ready"}, access=access)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        yield Routed(self.router.decide(job, {"ears": "ready"})[0].decision)
        async for event in self.engine.run(job):
            yield event


@pytest.fixture
async def door(
    ears: FasterWhisper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    transport = httpx.ASGITransport(http.build(House(ears).service()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        yield client


@pytest.fixture
def file(tmp_path: Path) -> bytes:
    return Path(recording(tmp_path, spoken(TEXT, "en")).path).read_bytes()


async def ask(door: httpx.AsyncClient, file: bytes, **fields: Any) -> httpx.Response:
    return await door.post(
        "/v1/audio/transcriptions", files={"file": ("speech.wav", file)}, data={"model": "whisper-1", **fields}
    )


async def test_the_openai_client_gets_what_it_expects(door: httpx.AsyncClient, file: bytes) -> None:
    client = openai.AsyncOpenAI(
        api_key="sk-local-standard", base_url="http://127.0.0.1/v1", http_client=door, max_retries=0
    )
    plain = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", file))
    assert plain.text.strip()
    verbose = await client.audio.transcriptions.create(
        model="whisper-1",
        file=("a.wav", file),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert verbose.language == "en"
    assert verbose.words is not None
    assert len(verbose.words) == len(verbose.text.split())
    assert verbose.segments is not None
    assert verbose.segments[0].end > 1


async def test_a_stream_tells_pieces_and_then_everything(door: httpx.AsyncClient, file: bytes) -> None:
    answer = await ask(door, file, stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert {event["type"] for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1]["type"] == "transcript.text.done"
    assert "".join(event["delta"] for event in events[:-1]).strip() == events[-1]["text"]
    assert events[-1]["usage"]["seconds"] > 1


async def test_subtitles(door: httpx.AsyncClient, file: bytes) -> None:
    srt = (await ask(door, file, response_format="srt")).text
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n\w+", srt)
    vtt = await ask(door, file, response_format="vtt")
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert re.match(r"WEBVTT\n\n00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}\n\w+", vtt.text)
    text = await ask(door, file, response_format="text")
    assert text.headers["content-type"].startswith("text/plain")
    assert text.headers["x-megacity-model"] == "nano-whisper@1"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"language": "tlh-XX-??", "response_format": "json"}, "language"),
        ({"language": "fr"}, "language"),
        ({"response_format": "docx"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"temperature": "9"}, "temperature"),
    ],
)
async def test_wrong_fields_are_named(door: httpx.AsyncClient, file: bytes, fields: dict[str, str], param: str) -> None:
    answer = await ask(door, file, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_picture_is_no_recording(door: httpx.AsyncClient) -> None:
    answer = await ask(door, b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500))
    assert answer.status_code in (400, 415)
    assert "error" in answer.json()


async def test_translation_needs_a_model_that_can(door: httpx.AsyncClient, file: bytes) -> None:
    answer = await door.post("/v1/audio/translations", files={"file": ("a.wav", file)}, data={"model": "auto"})
    assert answer.status_code == 400
    assert "translate" in answer.json()["error"]["message"]
