"""Scores of readings that are written down sound by sound, so that no model is in the way."""

import time
from itertools import pairwise

import numpy as np
import pytest

from deployments.sounds.phones import PHONES
from deployments.sounds.posteriors import Heard, Sounds, forced
from deployments.sounds.reference import reference
from deployments.sounds.scoring import Scored, score, spelt
from deployments.sounds.wordtimes import word_times

TEXT = "오늘 학교에서 밥을 먹었어요"


def reading(text: str, language: str = "ko", gap: int = 4) -> list[Heard]:
    """The sounds of a text, one every 80 ms, words further apart."""
    words, _ = reference(text, language)
    heard, frame = [], 5
    for word in words:
        for unit in word.ways[0].units:
            heard.append(Heard(unit.phone, frame, frame + 1, -0.01))
            frame += 4
        frame += gap
    return heard


def scored(text: str, said: str, language: str = "ko") -> Scored:
    return score(reference(text, language)[0], reading(said, language), None)


def statuses(result: Scored) -> list[tuple[str, str]]:
    return [(detail["reference"], detail["status"]) for detail in result.words]


def test_a_right_reading() -> None:
    result = scored(TEXT, TEXT)
    assert result.accuracy == 100
    assert {status for _, status in statuses(result)} == {"correct"}
    assert result.words[0]["start"] == pytest.approx(0.04, abs=0.03)
    assert [s["reference"] for s in result.words[1]["syllables"]] == ["학", "꾜", "에", "서"]


def test_spelling_that_sounds_the_same_is_right() -> None:
    assert scored("국물이 좋아요", "궁무리 조아요").accuracy == 100
    assert scored("게와 개", "개와 게").accuracy == 100


def test_a_substitution_is_found_at_its_letter() -> None:
    result = scored(TEXT, "오늘 학교에서 팝을 먹었어요")
    assert [word for word, status in statuses(result) if status != "correct"] == ["밥을"]
    syllable = result.words[2]["syllables"][0]
    assert syllable["status"] == "substituted"
    assert [(j["reference"], j["heard"], j["status"]) for j in syllable["jamo"]] == [
        ("ㅂ", "ㅍ", "substituted"),
        ("ㅏ", "ㅏ", "correct"),
    ]
    assert 90 < result.accuracy < 100


def test_a_missing_and_an_extra_word() -> None:
    missing = scored(TEXT, "오늘 밥을 먹었어요")
    assert ("학교에서", "missing") in statuses(missing)
    extra = scored(TEXT, "오늘 학교에서 정말 밥을 먹었어요")
    assert [detail["word"] for detail in extra.words if detail["status"] == "extra"] == ["정말"]
    assert extra.accuracy < 100


def test_more_errors_score_less() -> None:
    said = [
        TEXT,
        "오늘 학교에서 팝을 먹었어요",
        "오늘 학쿄에서 팝을 먹었어요",
        "우늘 학쿄에서 팝을 먹었어요",
        "우늘 학쿄에서 팝을 먹었니",
    ]
    scores = [scored(TEXT, text).accuracy for text in said]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_silence() -> None:
    result = score(reference(TEXT, "ko")[0], [], None)
    assert result.accuracy == 0
    assert {status for _, status in statuses(result)} == {"missing"}
    assert result.fluency["words_per_minute"] is None


def test_english_takes_the_nearest_of_several_ways() -> None:
    words, _ = reference("the teacher", "en")
    assert len(words[0].ways) > 1
    for way in words[0].ways:
        heard = [Heard(unit.phone, 5 + 4 * at, 6 + 4 * at, -0.01) for at, unit in enumerate(way.units)]
        heard += [Heard(u.phone, 60 + 4 * at, 61 + 4 * at, -0.01) for at, u in enumerate(words[1].ways[0].units)]
        assert score(words, heard, None).accuracy == 100


def test_in_the_stream_of_speech_sounds_may_meet() -> None:
    assert scored("못 나가", "몬 나가").accuracy == 100
    assert scored("할 수 있어", "할 쑤 이써").accuracy == 100


def test_doubt_costs_less_than_an_error() -> None:
    """The second best sound is the one expected: the nearer it is, the less is said against it."""
    words, _ = reference("가", "ko")
    costs = []
    for second in (-0.8, -2.0, -8.0):
        rows = np.full((20, len(PHONES)), -15.0, np.float32)
        rows[:, 0] = 0
        for at, (best, other) in {5: ("ㅋ-", "ㄱ-"), 9: ("ㅏ", "ㅏ")}.items():
            rows[at] = -15
            rows[at, PHONES.index(other)] = second
            rows[at, PHONES.index(best)] = -0.1
        sounds = Sounds(rows, PHONES)
        costs.append(100 - score(words, sounds.heard(), sounds).accuracy)
    assert costs == sorted(costs)
    assert costs[0] < 15 < 25 < costs[-1]


def test_pauses_are_reported() -> None:
    words, _ = reference("하나 둘 셋", "ko")
    result = score(words, reading("하나 둘 셋", gap=50), None)
    assert len(result.fluency["pauses"]) == 2
    assert result.fluency["pauses"][0]["duration_s"] == pytest.approx(1.0, abs=0.1)


def test_scoring_is_quick() -> None:
    """A minute of reading in less than 50 ms."""
    text = " ".join([TEXT] * 20)
    words, heard = reference(text, "ko")[0], reading(text)
    rows = np.full((heard[-1].last + 10, len(PHONES)), -12.0, np.float32)
    rows[:, 0] = 0
    for sound in heard:
        rows[sound.first : sound.last + 1, 0] = -9
        rows[sound.first : sound.last + 1, PHONES.index(sound.phone)] = -0.01
    sounds = Sounds(rows, PHONES)
    spent = []
    for _ in range(5):
        began = time.process_time()
        assert score(words, sounds.heard(), sounds).accuracy == 100
        spent.append(time.process_time() - began)
    assert min(spent) < 0.05


def test_probabilities_survive_the_way() -> None:
    rows = -np.abs(np.random.default_rng(1).standard_normal((30, len(PHONES))).astype(np.float32)) * 4
    back = Sounds.unpack(Sounds(rows, PHONES).pack())
    assert back.names == PHONES
    np.testing.assert_allclose(back.log_probabilities, rows.clip(-15.9), atol=1 / 31)


def test_forced_alignment_finds_the_only_path() -> None:
    rows = np.full((12, 4), -9.0, np.float32)
    for frame, label in enumerate([0, 1, 1, 0, 2, 0, 2, 2, 0, 3, 0, 0]):
        rows[frame, label] = -0.01
    assert forced(rows, [1, 2, 2, 3]) == [(1, 2), (4, 4), (6, 7), (9, 9)]
    assert forced(rows[:3], [1, 2, 2, 3]) is None


def test_times_of_words() -> None:
    heard = reading("하나 둘 셋", gap=20)
    rows = np.full((heard[-1].last + 10, len(PHONES)), -12.0, np.float32)
    rows[:, 0] = -0.01
    for sound in heard:
        rows[sound.first : sound.last + 1, 0] = -9
        rows[sound.first : sound.last + 1, PHONES.index(sound.phone)] = -0.01
    times = word_times("하나 둘 셋.", "ko", Sounds(rows, PHONES))
    assert [time.word for time in times] == ["하나", "둘", "셋"]
    assert all(a.end <= b.start for a, b in pairwise(times))


@pytest.mark.parametrize("text", ["안녕하세요", "학꾜에서", "강아지"])
def test_sounds_are_spelt(text: str) -> None:
    assert spelt([sound.phone for sound in reading(text)]) == text
