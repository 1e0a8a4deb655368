"""The whole way: synthesised readings, right and wrong, heard by the small model."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from deployments.pronunciation import PronunciationScore
from deployments.speech import FasterWhisper
from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.errors import BadRequest
from serve_app.policies.access import AccessRules
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import RoutingTables
from serve_app.types import Artifact, Done, Event, Job, Kind, Media, Pronunciation, Routed
from tests.speech.conftest import ears
from tests.speech.speaking import recording, said_as, spoken

__all__ = ["ears"]

TEXT = "오늘 학교에서 밥을 먹었어요."


async def scored(ears: FasterWhisper, audio: Media, text: str, language: str = "ko") -> tuple[dict[str, Any], Done]:
    engine = PronunciationScore(PronunciationScore.Options(), {"hear": ears.run})
    events = [e async for e in engine.run(Job("job", Kind.PRONUNCIATION, Pronunciation(audio, text, language)))]
    done = events[-1]
    assert isinstance(done, Done)
    (found,) = [event.data for event in events if isinstance(event, Artifact)]
    return json.loads(found), done


async def test_a_right_reading_scores_high_and_a_wrong_word_is_found(ears: FasterWhisper, tmp_path: Path) -> None:
    right, done = await scored(ears, recording(tmp_path, spoken(TEXT, "ko")), TEXT)
    assert right["accuracy"] >= 93
    assert right["basis"] == "sounds"
    assert done.usage.audio_s == pytest.approx(right["duration_s"], abs=0.01)
    wrong, _ = await scored(ears, recording(tmp_path, said_as("오늘 학꾜에서 맘을 머거써요.", "ko")), TEXT)
    assert wrong["accuracy"] < right["accuracy"] - 3
    statuses = {word["reference"]: word["status"] for word in wrong["word_details"]}
    assert statuses["밥을"] == "substituted"


async def test_english(ears: FasterWhisper, tmp_path: Path) -> None:
    text = "The teacher found the book at school."
    right, _ = await scored(ears, recording(tmp_path, spoken(text, "en")), text, "en")
    assert right["accuracy"] >= 93
    assert [word["reference"] for word in right["word_details"]][:3] == ["The", "teacher", "found"]
    missing, _ = await scored(ears, recording(tmp_path, spoken("The teacher found the book.", "en")), text, "en")
    assert missing["word_details"][-1]["status"] == "missing"


async def test_silence_is_said_to_be_silence(ears: FasterWhisper, tmp_path: Path) -> None:
    result, _ = await scored(ears, recording(tmp_path, np.zeros(32_000, np.float32)), TEXT)
    assert result["accuracy"] == 0
    assert "No speech" in result["notes"][0]


@pytest.mark.parametrize(
    ("text", "language"), [("", "ko"), ("😀 !?", "ko"), ("日本語", "ko"), ("가" * 1001, "ko"), ("hi", "fr")]
)
async def test_a_reference_that_nobody_can_read(ears: FasterWhisper, tmp_path: Path, text: str, language: str) -> None:
    audio = recording(tmp_path, np.zeros(16_000, np.float32))
    engine = PronunciationScore(PronunciationScore.Options(), {"hear": ears.run})
    with pytest.raises(BadRequest):
        await anext(engine.run(Job("job", Kind.PRONUNCIATION, Pronunciation(audio, text, language))))


async def test_the_route(ears: FasterWhisper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    engine = PronunciationScore(PronunciationScore.Options(), {"hear": ears.run})
    model = Model("sounds", "judge", version="1", kinds=frozenset({Kind.PRONUNCIATION}), context_tokens=1_000_000)
    router = Router(RoutingTables(default="sounds"), {"sounds": model}, Templates())

    async def run(job: Job) -> AsyncGenerator[Event]:
        yield Routed(router.decide(job, {"judge": "ready"})[0].decision)
        async for event in engine.run(job):
            yield event

    service = Service(run, router, lambda: {"judge": "ready"}, access=Access(AccessRules(anonymous=True)))
    file = Path(recording(tmp_path, spoken(TEXT, "ko")).path).read_bytes()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(http.build(service)), base_url="http://127.0.0.1", timeout=60
    ) as client:
        route = "/api/v1/kzone/voice/analyze"
        good = await client.post(route, files={"file": ("a.wav", file)}, data={"reference_text": TEXT})
        assert good.status_code == 200
        assert good.json()["accuracy"] >= 93
        assert good.json()["model"] == "sounds"
        empty = await client.post(route, files={"file": ("a.wav", file)}, data={"reference_text": "😀"})
        assert empty.status_code == 400
        assert empty.json()["error"]["param"] == "reference_text"
        none = await client.post(route, files={"file": ("a.wav", file)})
        assert none.status_code == 400
