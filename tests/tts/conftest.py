from collections.abc import AsyncIterator

import pytest

from deployments.tts import ESpeak


@pytest.fixture
async def voice() -> AsyncIterator[ESpeak]:
    engine = ESpeak(ESpeak.Options(), slots=4)
    await engine.load()
    yield engine
    await engine.close()
