"""VITS models of transformers, with random weights. Skipped where torch and transformers are not installed."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from deployments.tts import Vits
from serve_app.errors import BadRequest, ConfigError
from tests.tts.hearing import file_of, heard
from tests.tts.tiny import tiny_vits

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vits(tmp_path_factory.mktemp("vits"))


@pytest.fixture
async def vits(folder: Path) -> AsyncIterator[Vits]:
    options = {"paths": {"en": str(folder)}, "device": "cpu", "voice": "low", "speakers": {"low": 0, "high": 1}}
    engine = Vits(Vits.Options.model_validate(options), slots=2)
    await engine.load()
    yield engine
    await engine.close()


async def test_a_text_becomes_a_file(vits: Vits) -> None:
    data, done, _ = await file_of(vits, "Hello there. How are you?", "flac")
    assert data.startswith(b"fLaC")
    assert done.usage.audio_s > 0.2
    assert vits.rate == 16_000


async def test_speed_and_styles_change_the_pace(vits: Vits) -> None:
    text = "hello there how are you my friends " * 4
    lengths = {speed: len(await heard(vits, text, speed=speed)) for speed in (0.5, 1.0, 2.0)}
    assert lengths[0.5] > 1.4 * lengths[1.0] > 1.4 * lengths[2.0]
    assert len(await heard(vits, text, style="sad")) > len(await heard(vits, text, style="excited"))


async def test_a_voice_is_a_speaker_of_the_model(vits: Vits) -> None:
    import torch

    sounds = []
    for voice in ("low", "high", "unknown"):
        torch.manual_seed(1)
        sounds.append(await heard(vits, "hello", voice=voice))
    assert np.array_equal(sounds[0], sounds[2])
    assert not np.array_equal(sounds[0], sounds[1])


async def test_what_the_model_cannot_read_is_refused(vits: Vits) -> None:
    with pytest.raises(BadRequest, match="language"):
        await file_of(vits, "안녕하세요")
    with pytest.raises(BadRequest, match="letters"):
        await file_of(vits, "안녕하세요", language="en")


async def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model"):
        await Vits(Vits.Options.model_validate({"paths": {"en": str(tmp_path)}, "device": "cpu"})).load()


async def test_pickles_are_not_read(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(OSError, match="safetensors"):
        await Vits(Vits.Options.model_validate({"paths": {"en": str(tmp_path)}, "device": "cpu"})).load()
