"""The engines that the contract is tested on: those listed here and those of the embedded profile."""

import atexit
import functools
import hashlib
import importlib
import shutil
import tempfile
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deployments.movement import recording
from serve_app.engine import Engine
from serve_app.types import (
    Chat,
    Coaching,
    Completion,
    Dance,
    Documents,
    Embedding,
    Event,
    Handler,
    Job,
    Kind,
    Landmarks,
    Media,
    Message,
    Payload,
    Pose,
    Pronunciation,
    Retrieval,
    Sampling,
    Speech,
    Transcription,
)
from tests.remote.upstream import in_background
from tests.tts.tiny import tiny_vits
from tools.dancer.invariance import Take
from tools.dancer.picture import still

PROJECT = Path(__file__).parents[2]
NANO = "models/nano-tutor"

LISTED: dict[str, dict[str, Any]] = {
    "deployments.llm:CTranslate2": {"path": NANO},
    "deployments.fake:Scripted": {"delay_s": 0.01, "tokens": 20},
    "deployments.remote:Remote": {"base_url": in_background(), "model": "steady"},
    "deployments.remote:RemoteChat": {"base_url": in_background(), "model": "steady"},
    "deployments.remote:RemoteEmbeddings": {"base_url": in_background(), "model": "steady"},
    "deployments.embeddings:Encoder": {"path": "models/all-minilm-l6-v2"},
    "deployments.rag:Retriever": {},
    "deployments.motion:MediaPipePose": {},
    "deployments.dance:Compare": {},
    "deployments.vllm:VLLM": {"model": NANO},
    "deployments.speech:FasterWhisper": {"path": "models/nano-whisper", "chunk_s": 12, "beam_size": 1, "tail_s": 1},
    "deployments.pronunciation:PronunciationScore": {},
    "deployments.coach:Coach": {"tells": "report"},
    "deployments.tts:Vits": {"paths": {"en": "models/none"}, "device": "cpu"},
}
NEEDED = {
    Kind.CHAT: "deployments.llm:CTranslate2",
    Kind.EMBEDDING: "deployments.embeddings:Encoder",
    Kind.POSE: "deployments.motion:MediaPipePose",
    Kind.DANCE: "deployments.dance:Compare",
    Kind.TRANSCRIPTION: "deployments.speech:FasterWhisper",
}
"""Who stands in for an engine that another one needs, by what it is needed for."""
TEXT = frozenset({Kind.CHAT, Kind.COMPLETION})


def subjects() -> dict[str, tuple[str, dict[str, Any]]]:
    """Engine class and options by a name for the test report."""
    found = {engine.rpartition(":")[2]: (engine, options) for engine, options in LISTED.items()}
    for name, entry in _profiled():
        found[f"embedded-{name}"] = (entry["engine"], entry.get("options", {}))
    return found


def _profiled() -> Iterator[tuple[str, dict[str, Any]]]:
    profile = PROJECT / "serve_app" / "profiles" / "embedded.yaml"
    if profile.is_file():
        yield from yaml.safe_load(profile.read_text("utf-8"))["applications"][0]["args"]["engines"].items()


def class_of(engine: str) -> type[Engine]:
    module, _, name = engine.partition(":")
    cls: type[Engine] = getattr(importlib.import_module(module), name)
    return cls


def build(engine: str, options: dict[str, Any], handlers: Mapping[str, Handler] | None = None) -> Engine:
    cls = class_of(engine)
    return cls(cls.Options.model_validate(options), handlers, slots=2)


def prepared(engine: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options to run an engine with, where what they name has to be made; skips what cannot run here."""
    if engine == "deployments.vllm:VLLM":
        pytest.skip("takes an environment of its own: make test-vllm")
    if engine != "deployments.tts:Vits":
        return options
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return options | {"paths": {"en": str(tiny_vits(folder))}}


def example(kind: Kind, text: str = "2 + 3 = ?", **sampling: Any) -> Job:
    """A job of that kind that every engine can answer."""
    wish = Sampling(**sampling)
    payloads: dict[Kind, Payload] = {
        Kind.CHAT: Chat((Message("user", text),), wish),
        Kind.COMPLETION: Completion(text, wish),
        Kind.EMBEDDING: Embedding((text,)),
        Kind.DOCUMENTS: Documents("tests", "add", content=text),
        Kind.RETRIEVAL: Retrieval("tests", text),
        Kind.SPEECH: Speech(text),
        Kind.TRANSCRIPTION: Transcription(recording_of_a_tone(), words=True),
        Kind.PRONUNCIATION: Pronunciation(recording_of_a_tone(), text),
        Kind.POSE: Pose(picture()),
        Kind.DANCE: Dance(movement(), movement()),
        Kind.COACHING: Coaching(text, image=picture()),
    }
    return Job("job", kind, payloads[kind])


def unusable(kind: Kind) -> list[Job]:
    """Jobs of that kind that every engine must refuse."""
    if kind in TEXT:
        return [example(kind, text=""), example(kind, max_tokens=0), example(kind, n=0)]
    others: dict[Kind, Payload] = {
        Kind.POSE: Pose(picture(), max_fps=0),
        Kind.TRANSCRIPTION: Transcription(recording_of_a_tone(), language="no such language"),
        Kind.DANCE: Dance(Landmarks(b""), movement()),
    }
    return [Job("job", kind, others[kind]) if kind in others else example(kind, text="")]


@functools.cache
def recording_of_a_tone() -> Media:
    """Two seconds in which nobody speaks."""
    with tempfile.NamedTemporaryFile(suffix=".wav", delete=False) as file, wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes((8000 * np.sin(np.arange(32_000) * 0.17)).astype("<i2").tobytes())
    path = Path(file.name)
    atexit.register(path.unlink, missing_ok=True)
    data = path.read_bytes()
    return Media(str(path), hashlib.sha256(data).hexdigest(), len(data), "audio/wav")


@functools.cache
def picture() -> Media:
    """Somebody standing, painted."""
    with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
        file.write(still())
    path = Path(file.name)
    atexit.register(path.unlink, missing_ok=True)
    data = path.read_bytes()
    return Media(str(path), hashlib.sha256(data).hexdigest(), len(data), "image/png")


@functools.cache
def movement() -> Landmarks:
    return Landmarks(recording.write(Take(duration_s=2.0).of(1)))


async def collect(engine: Engine, job: Job) -> list[Event]:
    return [event async for event in engine.run(job)]
