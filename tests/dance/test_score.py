"""What the score takes no notice of, what it does, and that the page says the same."""

import re

import numpy as np
import pytest

from deployments.movement.comparison import compare, score_of
from deployments.movement.recording import Recording
from serve_app.errors import Unprocessable
from tools.dancer import invariance
from tools.dancer.figure import Dance, perform, record
from tools.dancer.invariance import DOCS, SAME, Take

REFERENCE = Take().of(1, noise_seed=0)


@pytest.fixture(scope="module")
def measured() -> str:
    return invariance.document()


def _same(text: str) -> dict[str, float]:
    rows = dict(re.findall(r"\| ([^|]+) \| (\d+\.\d) \|\n", text))
    return {name: float(rows[name]) for name in SAME}


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


def test_the_same_dance_scores_at_least_95_however_it_is_danced_and_filmed(measured: str) -> None:
    scores = _same(measured)
    assert {name: score for name, score in scores.items() if score < 95} == {}


def test_another_dance_scores_at_least_30_less(measured: str) -> None:
    highest = float(re.findall(r"at most (\d+\.\d)", measured)[0])
    assert highest <= min(_same(measured).values()) - 30


def test_the_page_says_what_was_measured(measured: str) -> None:
    page = (DOCS / "dance.md").read_text("utf-8")
    written = page.partition(invariance.BEGIN)[2].partition(invariance.END)[0]
    assert re.sub(r"\d+\.\d", "", written) == re.sub(r"\d+\.\d", "", measured)
    assert _numbers(written) == pytest.approx(_numbers(measured), abs=0.3)


@pytest.mark.parametrize("joints", [("left_elbow",), ("right_hip",), ("left_shoulder", "right_knee")])
@pytest.mark.parametrize("seed", [1, 3])
def test_more_error_always_scores_less(joints: tuple[str, ...], seed: int) -> None:
    scores = [score for _, score in invariance.wrong(joints, seed)]
    assert (np.diff(scores) < 0).all()


def test_the_error_is_found_where_it_is() -> None:
    result = compare(Take(errors={"left_elbow": 40, "right_knee": 25}).of(2), Take().of(2, noise_seed=0))
    by_size = sorted((p for p in result.parts if p.deviation_deg), key=lambda p: -abs(p.deviation_deg or 0))
    assert [part.name for part in by_size[:2]] == ["left_elbow", "right_knee"]
    assert by_size[0].deviation_deg == pytest.approx(-40, abs=6)  # a bent elbow has a smaller angle
    assert by_size[1].deviation_deg == pytest.approx(-25, abs=6)
    assert {name for moment in result.moments for name, _ in moment.joints[:1]} == {"left_elbow"}


def test_a_wrong_moment_is_found_when_it_is() -> None:
    danced = Take().of(1)
    good = perform(Dance(1), danced.times.astype(float))
    bad = perform(Dance(1), danced.times.astype(float), errors={"right_shoulder": 70})
    wrong = ((danced.times > 4) & (danced.times < 5.5))[:, None, None]
    moments = compare(record(np.where(wrong, bad, good), danced.times.astype(float)), REFERENCE).moments
    assert 3.5 < moments[0].start_s < 5
    assert moments[0].joints[0][0] == "right_shoulder"
    assert all(4 - 1 < moment.start_s < 5.5 for moment in moments)


@pytest.mark.parametrize(("tempo", "shift_s"), [(1.0, 0.0), (1.25, 0.0), (0.8, 0.0), (1.0, 1.2), (1.0, -0.8)])
def test_tempo_and_offset_are_measured(tempo: float, shift_s: float) -> None:
    result = compare(Take(tempo=tempo, shift_s=shift_s).of(2), Take().of(2, noise_seed=0))
    assert result.tempo.ratio == pytest.approx(tempo, rel=0.03)
    assert result.tempo.offset_s == pytest.approx(shift_s, abs=0.15)


def test_mirrors() -> None:
    danced = Take(mirrored=True).of(1)
    assert compare(danced, REFERENCE).mirrored
    assert not compare(danced, REFERENCE, "no").mirrored
    assert compare(danced, REFERENCE, "no").score < 70
    assert compare(REFERENCE, REFERENCE, "yes").score < 70
    left = Take(mirrored=True, errors={"right_elbow": 50}).of(1)  # the dancer's left, once mirrored
    worst = max(compare(left, REFERENCE).parts, key=lambda part: part.error_deg or 0)
    assert worst.name == "left_elbow"


def test_a_part_of_the_reference_is_not_the_whole() -> None:
    third = Take(duration_s=3.5).of(1)
    result = compare(third, REFERENCE)
    assert result.coverage == pytest.approx(0.35, abs=0.05)
    assert result.score < 50
    assert compare(REFERENCE, Take(duration_s=3.5).of(1, noise_seed=2)).score > 95  # the dance goes on: no fault


def test_what_is_not_seen_is_not_judged() -> None:
    danced = Take(errors={"left_knee": 60, "right_knee": 60}).of(1)
    points = danced.points.copy()
    points[:, 23:, 3] = 0.05
    result = compare(Recording(danced.times, points, danced.world, danced.aspect), REFERENCE)
    assert result.score > 95
    unseen = {part.name for part in result.parts if part.direction_deg is None}
    assert unseen >= {"left_knee", "right_ankle", "left_hip"}
    assert "left_elbow" not in unseen
    assert np.isnan(result.errors[:, [part.name for part in result.parts].index("left_knee")]).all()


def test_lost_frames_are_bridged() -> None:
    danced = Take().of(1)
    points, world = danced.points.copy(), danced.world.copy()
    lost = np.random.default_rng(0).random(danced.frames) < 0.15
    points[lost], world[lost] = 0, 0
    assert compare(Recording(danced.times, points, world, danced.aspect), REFERENCE).score > 95


def test_standing_still_is_no_dance_but_can_be_compared() -> None:
    still = record(perform(Dance(1, calm=0.0), np.arange(0, 10, 1 / 30)), np.arange(0, 10, 1 / 30))
    assert compare(still, still).score > 99
    assert compare(still, still).tempo.offset_s == pytest.approx(0, abs=0.1)
    assert compare(still, REFERENCE).score < 70


def test_too_little_is_refused() -> None:
    one = Recording(REFERENCE.times[:1], REFERENCE.points[:1], REFERENCE.world[:1])
    dark = Recording(REFERENCE.times, REFERENCE.points * 0, REFERENCE.world)
    for useless, why in ((one, "too short"), (dark, "Too little")):
        with pytest.raises(Unprocessable, match=why):
            compare(useless, REFERENCE)
        with pytest.raises(Unprocessable, match=why):
            compare(REFERENCE, useless)


def test_the_score_has_the_documented_meaning() -> None:
    assert score_of(0) == 100
    assert score_of(30) == 50
    page = (DOCS / "dance.md").read_text("utf-8")
    for deviation, score in re.findall(r"^\| (\d+)° \| (\d+) \|", page, re.MULTILINE):
        assert round(score_of(float(deviation))) == int(score)
