import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.movement import recording
from deployments.movement.recording import Recording
from serve_app.errors import BadRequest
from tools.dancer.invariance import Take

DANCED = Take(duration_s=1.0).of(1)
DATA = recording.write(DANCED)


def test_what_was_written_is_read() -> None:
    read = recording.read(DATA)
    assert read.aspect == pytest.approx(DANCED.aspect, abs=1e-6)
    for name in ("times", "points", "world"):
        np.testing.assert_array_equal(getattr(read, name), getattr(DANCED, name))
    assert recording.write(read) == DATA


def test_the_form_is_the_documented_one() -> None:
    length = int.from_bytes(DATA[8:12], "little")
    header = json.loads(DATA[12 : 12 + length])
    assert DATA[:8] == b"MCMOVE01"
    assert header["frames"] == 30
    assert len(DATA) == 12 + length + 30 * 4 * (1 + 33 * 4 + 33 * 3)


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    for broken in (data, DATA[: len(data)], DATA + data[:1] + b"x", b"MCMOVE01" + data):
        with pytest.raises(BadRequest):
            recording.read(broken)


@given(st.integers(0, 60), st.integers(0, 255))
def test_a_broken_beginning_is_refused_or_harmless(at: int, value: int) -> None:
    broken = bytearray(DATA)
    broken[at] = value
    try:
        read = recording.read(bytes(broken))
    except BadRequest:
        return
    assert read.frames == 30
    assert np.isfinite(read.times).all()


@pytest.mark.parametrize(
    ("name", "value"), [("times", np.nan), ("times", 9.0), ("points", np.inf), ("points", -0.5), ("world", 1e9)]
)
def test_values_that_cannot_be_are_refused(name: str, value: float) -> None:
    arrays = {key: getattr(DANCED, key).copy() for key in ("times", "points", "world")}
    arrays[name][3, ...] = value
    with pytest.raises(BadRequest, match="recorded movement"):
        recording.read(recording.write(Recording(**arrays)))
