"""Every other method of the typed client: over HTTP, through the real doors, answered by the real engines."""

import asyncio
import inspect
import io
import math
import socket
import tracemalloc
import wave
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from deployments.coach import Coach
from deployments.dance import Compare
from deployments.embeddings import Encoder
from deployments.llm import CTranslate2
from deployments.movement import recording
from deployments.pronunciation import PronunciationScore
from deployments.rag import Retriever
from deployments.speech import FasterWhisper
from deployments.tts import ESpeak
from serve_app import errors
from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.client import MegaCity, Sound, SyncMegaCity
from serve_app.demo import demo
from serve_app.engine import Engine
from serve_app.policies.access import AccessRules
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import RoutingTables, Task
from serve_app.types import Artifact, Done, Event, Job, Pose, Routed
from tests.client.conftest import listening
from tests.speech.conftest import NANO
from tools.dancer.invariance import Take

TEXT = "The teacher found the book at school."
RULES = "# 도서관 규정\n## 대출\n일반 회원은 한 번에 일곱 권을 2주 동안 빌립니다.\n"

Serving = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def serving(engines: Mapping[str, Engine]) -> AsyncIterator[str]:
    """The address of a service with these engines, loaded."""
    for engine in engines.values():
        await engine.load()
    models = {name: Model(name, name, kinds=engine.kinds, context_tokens=10**6) for name, engine in engines.items()}
    first = next(iter(models))
    tasks = dict.fromkeys(("math_tutor", "code_review"), Task(first))
    router = Router(RoutingTables(default=first, tasks=tasks), models, Templates())
    health = dict.fromkeys(engines, "ready")

    async def run(job: Job) -> AsyncIterator[Event]:
        decision = router.decide(job, health)[0].decision
        yield Routed(decision)
        async for event in engines[decision.engine].run(job):
            yield event

    service = Service(run, router, lambda: health, access=Access(AccessRules(anonymous=True)))
    async with listening(http.build(service)) as url:
        yield url
    for engine in engines.values():
        await engine.close()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path / "home"))


def seconds(sound: bytes) -> float:
    with wave.open(io.BytesIO(sound)) as file:
        return file.getnframes() / file.getframerate()


async def test_speaking_listening_and_pronunciation(tmp_path: Path) -> None:
    ears = FasterWhisper(FasterWhisper.Options.model_validate(NANO), slots=2)
    judge = PronunciationScore(PronunciationScore.Options(), {"hear": ears.run})
    engines = {"voice": ESpeak(ESpeak.Options(), slots=1), "ears": ears, "judge": judge}
    async with serving(engines) as url, MegaCity(url) as city:
        sound = await city.speak(TEXT, language="en")
        assert isinstance(sound, Sound)
        assert (sound.format, sound.characters, sound.source.model) == ("wav", len(TEXT), "voice")
        assert seconds(sound) == pytest.approx(sound.duration_s, abs=0.01)
        slow = await city.speak(TEXT, style="calm", language="en", speed=0.5, format="flac")
        assert slow.startswith(b"fLaC")
        assert slow.duration_s > 1.8 * sound.duration_s
        with pytest.raises(errors.BadRequest) as wrong:
            await city.speak(TEXT, style="purple")
        assert wrong.value.param == "style"

        path = tmp_path / "said.wav"
        path.write_bytes(sound)
        heard, again = await city.transcribe(sound, "en", words=True), await city.transcribe(path, "en")
        assert heard.text == again.text
        assert heard.text
        assert (heard.language, heard.source.model) == ("en", "ears")
        assert heard.duration_s == pytest.approx(sound.duration_s, abs=0.05)
        assert [word.text for word in heard.words] == [word.strip(".,?!") for word in heard.text.split()]
        assert again.words == ()
        assert 0 <= again.segments[0].start < again.segments[-1].end <= sound.duration_s + 0.1

        score = await city.score_pronunciation(path, TEXT, "en")
        assert score.accuracy > 60
        assert [word.reference for word in score.words if word.reference][:2] == ["The", "teacher"]
        assert score.raw["fluency"]["speech_s"] > 0
        with pytest.raises(errors.MegaCityError) as picture:
            await city.transcribe(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500))
        assert picture.value.status in (400, 415)


async def test_embeddings_and_documents(tmp_path: Path) -> None:
    encoder = Encoder(Encoder.Options(path="models/all-minilm-l6-v2", max_tokens=256))
    documents = Retriever(Retriever.Options(url=f"sqlite:///{tmp_path}/d.db"), {"embed": encoder.run})
    async with serving({"encoder": encoder, "documents": documents}) as url, MegaCity(url) as city:
        one, two, far = await city.embed(["a cat sleeps", "a kitten naps", "the stock market fell"])
        assert len(one) == 384
        assert math.dist(one, two) < math.dist(one, far)
        ((*short,),) = await city.embed(["a cat sleeps"], dimensions=4)
        assert math.hypot(*short) == pytest.approx(1, abs=1e-5)
        with pytest.raises(errors.BadRequest):
            await city.embed("not a list")

        path = tmp_path / "규정.md"
        path.write_text(RULES)
        kept = await city.add_document(path, collection="library")
        assert (kept.name, kept.bytes) == ("규정.md", len(RULES.encode()))
        same = await city.add_document(RULES.encode(), name="again", collection="library")
        assert same.id == kept.id
        answer = await city.ask("책은 한 번에 몇 권 빌릴 수 있나요?", top_k=1, collection="library")
        assert "일곱 권" in answer.text
        assert answer.found
        assert [(one.document_id, one.cited) for one in answer.citations] == [(kept.id, True)]
        await city.add_document(text="Gas exchange takes place in the alveoli of the lungs.", name="lungs")
        assert "alveoli" in (await city.ask("Where does gas exchange take place?")).text
        await city.delete_document(kept.id, collection="library")
        for gone in (kept.id, "../../../v1/models"):
            with pytest.raises(errors.NotFound):
                await city.delete_document(gone, collection="library")
        for arguments in ({}, {"file": path, "text": "both"}):
            with pytest.raises(errors.BadRequest):
                await city.add_document(**arguments)


async def recorded(job: Job) -> AsyncIterator[Event]:
    """Looks at no video: the files here are recordings of a dancer who is exactly known."""
    assert isinstance(job.payload, Pose)
    yield Artifact("landmarks", "application/octet-stream", Path(job.payload.media.path).read_bytes())
    yield Done()


async def test_dances_and_the_coach(tmp_path: Path) -> None:
    compare = Compare(Compare.Options(), {"pose": recorded})
    tutor = CTranslate2(CTranslate2.Options.model_validate({"path": "models/nano-tutor"}), slots=1)
    needs = {"pose": recorded, "compare": compare.run, "explain": tutor.run}
    coach = Coach(Coach.Options.model_validate({"tells": "report"}), needs)
    dance, learner = recording.write(Take().of(1)), tmp_path / "learner.mp4"
    learner.write_bytes(recording.write(Take(errors={"left_elbow": 40}).of(1)))
    async with serving({"dance": compare, "tutor": tutor, "coach": coach}) as url, MegaCity(url) as city:
        score = await city.score_dance(learner, dance, language="en")
        assert 0 < score.score < 95
        assert score.feedback[0].startswith("Score")
        assert score.heatmap is not None
        assert score.heatmap.startswith(b"\x89PNG")
        assert abs(score.raw["joints"]["left_elbow"]["deviation_deg"]) > 10
        with pytest.raises(errors.BadRequest) as wrong:
            await city.score_dance(learner, dance, mirror="perhaps")
        assert wrong.value.param == "mirror"

        advice = await city.coach("What is wrong with this move?", video=learner, reference=dance)
        assert (advice.compared_with, advice.source.model) == ("reference", "coach")
        assert advice.score == score.score
        assert "elbow" in advice.text
        with pytest.raises(errors.BadRequest):
            await city.coach("What is wrong with this move?")


async def test_what_a_service_lacks_and_what_is_no_file(tmp_path: Path) -> None:
    async with serving({"voice": ESpeak(ESpeak.Options(), slots=1)}) as url, MegaCity(url) as city:
        with pytest.raises(errors.BadRequest, match="'transcription'") as lacking:
            await city.transcribe(b"RIFF")
        assert lacking.value.param == "model"
        with pytest.raises(errors.ModelNotFound):
            await city.speak(TEXT, model="nobody")
        with pytest.raises(FileNotFoundError):
            await city.transcribe(tmp_path / "none.wav")
        with pytest.raises(errors.BadRequest, match="empty"):
            await city.transcribe(b"")

    async def something_else(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"hello": "world"}'})

    async with listening(something_else) as url, MegaCity(url) as city:
        for asking in (city.speak("hi"), city.embed(["hi"]), city.ask("hi"), city.transcribe(b"RIFF")):
            with pytest.raises(errors.EngineFailed):
                await asking


async def test_files_are_never_in_memory_whole(tmp_path: Path) -> None:
    got = 0

    async def sink(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        while (message := await receive())["type"] == "http.request":
            got += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 415, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    async with listening(sink) as url, MegaCity(url) as city:
        tracemalloc.start()
        try:
            with pytest.raises(errors.WrongMedia):
                await city.transcribe(path)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert got > 64 * 2**20
    assert most < 8 * 2**20


async def test_plain_scripts_have_every_method() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        named = {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}
        return {name: list(inspect.signature(value).parameters) for name, value in named.items() if "close" not in name}

    assert methods(SyncMegaCity) == methods(MegaCity)

    def script(url: str) -> Sound:
        with SyncMegaCity(url) as city:
            return city.speak("하나, 둘, 셋.", format="mp3")

    async with serving({"voice": ESpeak(ESpeak.Options(), slots=1)}) as url:
        assert (await asyncio.to_thread(script, url)).duration_s > 0.5


async def test_the_demo_says_what_it_could_not_try(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving({"voice": ESpeak(ESpeak.Options(), slots=1)}) as url:
        results = {result["title"].partition(" / ")[0]: result for result in await demo(url)}
    assert results["Speech"]["ok"] is True
    assert " s]" in results["Speech"]["answer"]
    assert {title for title, result in results.items() if result["ok"] is not None} == {"Speech"}
    assert "'transcription'" in results["Hearing what was said"]["answer"]
    assert [line[0] for line in capsys.readouterr().out.splitlines() if line[:2] in ("✓ ", "✗ ", "– ")].count("–") == 10
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = await demo(f"http://127.0.0.1:{taken.getsockname()[1]}", quiet=True)
    assert not any(result["ok"] for result in nobody)
    assert nobody[0]["ok"] is False
