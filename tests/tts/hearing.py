"""What can be measured of speech."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.tts import Speaking
from serve_app.types import Artifact, Done, Job, Kind, Speech

Samples = NDArray[np.float64]


async def file_of(engine: Speaking, text: str, format: str = "wav", **how: Any) -> tuple[bytes, Done, int]:
    """The file, the last event, and in how many pieces the file came."""
    job = Job("job", Kind.SPEECH, Speech(text, format=format, **how))
    *pieces, done = [event async for event in engine.run(job)]
    assert isinstance(done, Done)
    assert all(isinstance(piece, Artifact) and piece.name == "audio" for piece in pieces)
    return b"".join(piece.data for piece in pieces if isinstance(piece, Artifact)), done, len(pieces)


async def heard(engine: Speaking, text: str, **how: Any) -> Samples:
    raw, _, _ = await file_of(engine, text, "pcm", **how)
    return np.frombuffer(raw, "<i2") / 32768


def pitches(samples: Samples, rate: int) -> Samples:
    """The fundamental of each voiced 40 ms, in Hz, by autocorrelation."""
    size, found = int(rate * 0.04), []
    for start in range(0, len(samples) - size, size // 2):
        part = samples[start : start + size] - samples[start : start + size].mean()
        if np.abs(part).max() < 0.05:
            continue
        similar = np.correlate(part, part, "full")[size - 1 :]
        shortest, longest = int(rate / 450), int(rate / 60)
        period = shortest + int(np.argmax(similar[shortest:longest]))
        if similar[period] > 0.6 * similar[0]:
            found.append(rate / period)
    return np.array(found)


def spread(values: Samples) -> float:
    return float(np.percentile(values, 90) - np.percentile(values, 10))
