from collections.abc import AsyncIterator

import pytest

from deployments.speech import FasterWhisper

NANO = {"path": "models/nano-whisper", "chunk_s": 12, "beam_size": 1, "tail_s": 1, "max_seconds": 600}


@pytest.fixture
async def ears() -> AsyncIterator[FasterWhisper]:
    engine = FasterWhisper(FasterWhisper.Options.model_validate(NANO), slots=2)
    await engine.load()
    yield engine
    await engine.close()
