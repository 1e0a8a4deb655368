import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.movement import words
from deployments.movement.comparison import compare
from tools.dancer.invariance import Take
from tools.nano_tutor import motion

HANGUL = re.compile(r"[가-힣]")
REFERENCE = Take().of(1, noise_seed=0)
JOINTS = st.tuples(st.sampled_from(["left", "right"]), st.sampled_from(motion.JOINTS), st.floats(-180, 180))


@given(st.floats(-10, 110), st.lists(JOINTS, max_size=5), st.floats(-5, 5), st.sampled_from(["ko", "en"]))
def test_the_report_is_what_the_tutor_was_trained_on(
    score: float, found: list[tuple[str, str, float]], late_s: float, language: str
) -> None:
    ours = words.report(score, [words.Deviation(*joint) for joint in found], late_s, language)
    assert ours == motion.motion_report(score, [motion.JointDeviation(*joint) for joint in found], late_s, language)


def test_the_report_of_a_comparison() -> None:
    danced = Take(errors={"left_elbow": 40, "right_knee": 20}).of(1)
    report = words.motion_report(compare(danced, REFERENCE), "en")
    assert re.fullmatch(
        r"motion report: score \d+; left elbow \d+ deg low; right knee \d+ deg low; timing on time", report
    )
    late = words.motion_report(compare(Take(shift_s=0.5).of(1), REFERENCE), "en")
    assert late.endswith(("timing 0.5 s late", "timing 0.4 s late"))
    cut = Take(duration_s=14).of(1)  # begins 4 s before the reference: another cut, and not a late dancer
    part = Take(shift_s=-4, duration_s=10).of(1)
    assert words.motion_report(compare(cut, part), "en").endswith("timing on time")


@pytest.mark.parametrize("language", ["ko", "en"])
def test_feedback_is_in_the_language_of_the_dancer(language: str) -> None:
    danced = Take(tempo=1.2, mirrored=True, errors={"right_elbow": 40, "left_shoulder": -30}).of(1)
    sentences = words.feedback(compare(danced, REFERENCE), language)
    assert len(sentences) > 4
    assert all(bool(HANGUL.search(sentence)) == (language == "ko") for sentence in sentences)


def test_feedback_says_what_to_do() -> None:
    danced = Take(tempo=1.2, errors={"left_elbow": 40}).of(1)
    sentences = words.feedback(compare(danced, REFERENCE), "en")
    assert any(re.match(r"Straighten your left elbow by about (3|4)\d degrees", sentence) for sentence in sentences)
    assert any(re.match(r"You dance (19|20|21) % faster", sentence) for sentence in sentences)
    korean = words.feedback(compare(danced, REFERENCE), "ko")
    assert any(sentence.startswith("왼쪽 팔꿈치를") and sentence.endswith("펴세요.") for sentence in korean)


def test_a_good_dance_is_told_so() -> None:
    sentences = words.feedback(compare(Take().of(1), REFERENCE), "en")
    assert len(sentences) == 1
    assert "Very close" in sentences[0]
