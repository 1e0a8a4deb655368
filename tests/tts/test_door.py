"""The routes, with the real voice behind them, over a real socket."""

import asyncio
import base64
import hashlib
import io
import socket
import wave
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
import uvicorn

from deployments.tts import ESpeak
from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.errors import EngineFailed
from serve_app.policies.access import AccessRules
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import RoutingTables
from serve_app.services.objects import Objects
from serve_app.types import Event, Job, Kind, Routed, Speech

TEXT = "Good morning, dear friends. 오늘도 반갑습니다!"


class House:
    """A service with one engine, which can be told to break after some events."""

    def __init__(self, engine: ESpeak) -> None:
        self.engine = engine
        self.jobs: list[Job] = []
        self.events_left = 10**9
        self.running = 0
        model = Model("espeak-ng", "voice", version="1.52", kinds=frozenset({Kind.SPEECH}), context_tokens=100_000)
        tables = RoutingTables(default="espeak-ng", aliases={"tts-1": "auto"})
        self.router = Router(tables, {"espeak-ng": model}, Templates())

    def service(self) -> Service:
        access = Access(AccessRules(anonymous=True))
        return Service(self.run, self.router, lambda: {"voice": "ready"}, access=access)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        self.jobs.append(job)
        self.running += 1
        try:
            yield Routed(self.router.decide(job, {"voice": "ready"})[0].decision)
            async for event in self.engine.run(job):
                if not self.events_left:
                    raise EngineFailed("The voice broke.")
                self.events_left -= 1
                yield event
        finally:
            self.running -= 1


@pytest.fixture
def house(voice: ESpeak) -> House:
    return House(voice)


@pytest.fixture
async def url(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(http.build(house.service()), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
async def raw(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-local-standard", max_retries=0) as client:
        yield client


async def test_openai_s_client_gets_sound(client: openai.AsyncOpenAI) -> None:
    answer = await client.audio.speech.create(model="tts-1", voice="nova", input=TEXT, response_format="wav", speed=1.5)
    assert answer.response.headers["content-type"] == "audio/wav"
    assert answer.response.headers["x-megacity-model"] == "espeak-ng@1.52"
    with wave.open(io.BytesIO(answer.content)) as file:
        assert len(file.readframes(10**8)) / 2 / file.getframerate() > 1


async def test_it_is_sent_while_it_is_spoken(client: openai.AsyncOpenAI, house: House) -> None:
    text = "This is a sentence. " * 100
    async with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="x", input=text, response_format="pcm"
    ) as answer:
        pieces = [piece async for piece in answer.iter_bytes()]
    assert len(pieces) > 10
    payload = house.jobs[0].payload
    assert isinstance(payload, Speech)
    assert (payload.voice, payload.format, payload.style) == ("x", "pcm", "neutral")


async def test_instructions_choose_a_style(raw: httpx.AsyncClient, house: House) -> None:
    for instructions in ("Speak in a cheerful and then calm tone.", "슬픈 목소리로", "like a pirate"):
        body = {"model": "tts-1", "input": "Hi.", "voice": {"id": "echo"}, "instructions": instructions}
        assert (await raw.post("/v1/audio/speech", json=body)).headers["content-type"] == "audio/mpeg"
    assert [getattr(job.payload, "style", "") for job in house.jobs] == ["happy", "sad", "neutral"]


async def events_of(raw: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    body = {"model": "tts-1", "input": TEXT, "response_format": "pcm", "stream_format": "sse", **body}
    answer = await raw.post("/v1/audio/speech", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [orjson.loads(line[6:]) for line in answer.text.splitlines() if line]


async def test_events_carry_the_same_sound(raw: httpx.AsyncClient) -> None:
    *deltas, done = await events_of(raw)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    sound = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["characters"] == len(TEXT)
    assert len(sound) / 2 / 22050 == pytest.approx(done["usage"]["audio_s"])


async def test_a_run_that_breaks_never_looks_whole(raw: httpx.AsyncClient, house: House) -> None:
    body = {"model": "tts-1", "input": TEXT, "response_format": "pcm"}
    house.events_left = 0
    assert (await raw.post("/v1/audio/speech", json=body)).status_code == 500
    house.events_left = 1
    assert (await events_of(raw))[-1]["error"]["message"] == "The voice broke."
    house.events_left = 1
    with pytest.raises(httpx.RemoteProtocolError):
        await raw.post("/v1/audio/speech", json=body)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"speed": 5}, "speed"),
        ({"response_format": "midi"}, "response_format"),
        ({"input": "🙂"}, None),
        ({"language": "xx"}, "language"),
    ],
)
async def test_what_is_wrong_is_said(raw: httpx.AsyncClient, wrong: dict[str, Any], param: str | None) -> None:
    answer = await raw.post("/v1/audio/speech", json={"model": "tts-1", "input": "Hi.", **wrong})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_client_that_leaves_is_not_spoken_to(url: str, house: House) -> None:
    body = orjson.dumps({"model": "tts-1", "input": "This is a sentence. " * 200, "response_format": "pcm"})
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readexactly(20)
        assert house.running == 1
        writer.close()
        async with asyncio.timeout(1):
            while house.running:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("format", ["mp3", "wav"])
async def test_a_stored_file_is_found_at_its_url(raw: httpx.AsyncClient, format: str) -> None:
    answer = await raw.post("/api/v1/kzone/tts", json={"text": TEXT, "style": "happy", "format": format})
    body = answer.json()
    assert answer.status_code == 200, body
    assert float(answer.headers["x-megacity-cost-usd"]) >= 0
    file = await raw.get(body["audio_url"])
    assert file.headers["content-type"] == body["media_type"]
    assert hashlib.sha256(file.content).hexdigest() == body["provenance"]["sha256"]
    assert (body["provenance"]["model"], body["provenance"]["ai_generated"]) == ("espeak-ng", True)
    assert body["characters"] == len(TEXT)
    if format == "wav":
        with wave.open(io.BytesIO(file.content)) as sound:
            assert sound.getnframes() / sound.getframerate() == pytest.approx(body["duration_s"], abs=0.01)
    part = await raw.get(body["audio_url"], headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, file.content[:10])


async def test_an_unknown_style_is_refused(raw: httpx.AsyncClient) -> None:
    answer = await raw.post("/api/v1/kzone/tts", json={"text": "Hi.", "style": "drunk"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "style")


async def test_the_routes_are_described(raw: httpx.AsyncClient) -> None:
    document = (await raw.get("/openapi.json")).json()
    assert "SpeechRequest" in document["components"]["schemas"]
    assert "/api/v1/objects/{key}" in document["paths"]


class TestObjects:
    async def test_only_the_owner_or_whoever_has_the_url(self, tmp_path: Path) -> None:
        objects = Objects(tmp_path, b"s" * 32)
        url = await objects.put("mine", b"abc", "audio/mpeg")
        key, _, query = url.rpartition("/")[2].partition("?")
        signed = dict(part.split("=") for part in query.split("&"))
        expires, signature = int(signed["expires"]), signed["signature"]
        assert await objects.find(key, "mine")
        assert await objects.find(key, None, expires, signature)
        assert await objects.find(key, "other") is None
        assert await objects.find(key, "", 0, "") is None
        assert await objects.find(key, None, expires + 1, signature) is None
        assert await objects.find(key, None, expires, signature[:-1] + "é") is None
        assert await Objects(tmp_path, b"t" * 32).find(key, "mine") is None

    @pytest.mark.parametrize("key", ["", "..", "../key-secret", "x.mp3", "0" * 24 + "-" + "0" * 32 + ".mp3"])
    async def test_no_other_file_is_found(self, tmp_path: Path, key: str) -> None:
        assert await Objects(tmp_path, b"s" * 32).find(key, "mine") is None

    async def test_what_is_old_is_gone(self, tmp_path: Path) -> None:
        objects = Objects(tmp_path, b"s" * 32, retention_s=0.05)
        url = await objects.put("mine", b"abc", "image/png")
        key = url.rpartition("/")[2].partition("?")[0]
        await asyncio.sleep(0.06)
        assert await objects.find(key, "mine") is None
        assert len(list(tmp_path.iterdir())) == 1
        await Objects(tmp_path, b"s" * 32, retention_s=0.05).put("mine", b"def", "image/png")
        assert len(list(tmp_path.iterdir())) == 1


async def test_a_browser_needs_no_key_for_a_signed_url(tmp_path: Path, house: House) -> None:
    objects = Objects(tmp_path, b"s" * 32)
    url = await objects.put("mine", b"abc", "audio/mpeg")
    access = Access(AccessRules(anonymous=False))
    service = Service(house.run, house.router, lambda: {}, access=access, objects=objects)
    transport = httpx.ASGITransport(http.build(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        assert (await browser.get(url)).content == b"abc"
        unsigned, wrong = await browser.get(url.partition("?")[0]), await browser.get(url[:-1] + "!")
        assert unsigned.status_code == wrong.status_code == 404
        assert unsigned.json()["error"]["message"] == wrong.json()["error"]["message"]
        assert (await browser.get("/api/v1/objects")).status_code == 401
        assert (await browser.get("/v1/models")).status_code == 401
