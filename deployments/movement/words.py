"""What was measured, in words: sentences for the dancer, and the fixed form that the nano tutor was trained to read."""

from collections.abc import Iterator
from dataclasses import dataclass

from deployments.movement.comparison import Comparison, PartResult

JOINTS_KO = {"elbow": "팔꿈치", "shoulder": "어깨", "wrist": "손목", "hip": "고관절", "knee": "무릎", "ankle": "발목"}
OBJECTS_KO = {
    "elbow": "팔꿈치를",
    "shoulder": "팔을",
    "wrist": "손목을",
    "hip": "고관절을",
    "knee": "무릎을",
    "ankle": "발목을",
}
SIDES_KO = {"left": "왼쪽", "right": "오른쪽"}
NOTABLE_DEG = 8.0  # less is not worth a sentence
NOTABLE_TEMPO = 0.04
NOTABLE_S = 0.1
REPORTED_JOINTS = 2
LARGEST_REPORTED_DEG = 120
LARGEST_REPORTED_S = 2.0  # a greater offset is that of a recording that began elsewhere, and no lateness
ON_TIME_S = 0.05


@dataclass(frozen=True, slots=True)
class Deviation:
    side: str
    joint: str
    degrees: float


def feedback(comparison: Comparison, language: str) -> list[str]:
    """Sentences in Korean (`ko`) or English, the most important first."""
    sentences = _korean(comparison) if language == "ko" else _english(comparison)
    return list(sentences)


def motion_report(comparison: Comparison, language: str) -> str:
    """The worst joints and the timing in one line, such as `motion report: score 72; left elbow 24 deg low; timing
    0.3 s late`. `low` means that the joint's angle is below the reference's."""
    late_s = comparison.tempo.offset_s if abs(comparison.tempo.offset_s) <= LARGEST_REPORTED_S else 0.0
    return report(comparison.score, deviations(comparison), late_s, language)


def report(score: float, found: list[Deviation], late_s: float, language: str) -> str:
    korean = language == "ko"
    sizes = [(d, min(round(abs(d.degrees)), LARGEST_REPORTED_DEG)) for d in found]
    worst = sorted((pair for pair in sizes if pair[1]), key=lambda pair: -pair[1])[:REPORTED_JOINTS]
    late_s = min(max(late_s, -LARGEST_REPORTED_S), LARGEST_REPORTED_S)
    parts = [f"{'점수' if korean else 'score'} {round(min(max(score, 0), 100))}"]
    for d, size in worst:
        if korean:
            parts.append(f"{SIDES_KO[d.side]} {JOINTS_KO[d.joint]} {size}도 {'낮음' if d.degrees < 0 else '높음'}")
        else:
            parts.append(f"{d.side} {d.joint} {size} deg {'low' if d.degrees < 0 else 'high'}")
    parts.append(_timing_ko(late_s) if korean else _timing_en(late_s))
    return ("동작 보고: " if korean else "motion report: ") + "; ".join(parts)


def deviations(comparison: Comparison) -> list[Deviation]:
    """Every judged joint's, the largest first."""
    found = [_deviation(part) for part in comparison.parts if part.deviation_deg is not None]
    return sorted(found, key=lambda d: -abs(d.degrees))


def _deviation(part: PartResult) -> Deviation:
    side, _, joint = part.name.partition("_")
    assert part.deviation_deg is not None
    return Deviation(side, joint, part.deviation_deg)


def _timing_en(late_s: float) -> str:
    if abs(late_s) < ON_TIME_S:
        return "timing on time"
    return f"timing {abs(late_s):.1f} s {'late' if late_s > 0 else 'early'}"


def _timing_ko(late_s: float) -> str:
    if abs(late_s) < ON_TIME_S:
        return "박자 정확"
    return f"박자 {abs(late_s):.1f}초 {'늦음' if late_s > 0 else '빠름'}"


def _notable(comparison: Comparison) -> list[Deviation]:
    return [d for d in deviations(comparison) if abs(d.degrees) >= NOTABLE_DEG][:3]


def _unseen(comparison: Comparison) -> list[PartResult]:
    return [part for part in comparison.parts if part.direction_deg is None]


def _grade(score: float) -> int:
    return (score >= 50) + (score >= 70) + (score >= 90)


def _english(c: Comparison) -> Iterator[str]:
    verdict = (
        "This differs a lot from the reference.",
        "The outline is there; work on the joints below.",
        "Good; a few details are off.",
        "Very close to the reference.",
    )[_grade(c.score)]
    yield f"Score {c.score:.0f} of 100. {verdict}"
    for d in _notable(c):
        yield f"{_verb_en(d)} your {d.side} {d.joint} by about {abs(d.degrees):.0f} degrees more."
    for moment in c.moments[:2]:
        names = ", ".join(name.replace("_", " ") for name, _ in moment.joints) or "whole posture"
        yield f"Around {moment.video_s:.1f} s in your video, watch your {names}."
    yield from _time_en(c)
    if c.mirrored:
        yield "You danced it mirrored, and were compared with the mirror image of the reference."
    if c.coverage < 0.98:
        yield f"{c.coverage:.0%} of the reference could be found in your video."
    if _unseen(c):
        names = ", ".join(part.name.replace("_", " ") for part in _unseen(c))
        yield f"Not seen, and so not judged: {names}. Step back until your whole body is in the picture."


def _verb_en(d: Deviation) -> str:
    if d.joint == "shoulder":
        return "Raise" if d.degrees < 0 else "Lower"
    return "Straighten" if d.degrees < 0 else "Bend"


def _time_en(c: Comparison) -> Iterator[str]:
    percent = abs(c.tempo.ratio - 1) * 100
    if abs(c.tempo.ratio - 1) >= NOTABLE_TEMPO:
        yield f"You dance {percent:.0f} % {'faster' if c.tempo.ratio > 1 else 'slower'} than the reference."
    if NOTABLE_S <= abs(c.tempo.offset_s) <= LARGEST_REPORTED_S:
        yield f"You begin {abs(c.tempo.offset_s):.1f} s {'late' if c.tempo.offset_s > 0 else 'early'}."
    if c.tempo.rhythm_s >= NOTABLE_S:
        yield f"Single moves are {c.tempo.rhythm_s:.1f} s off the beat on average."


def _korean(c: Comparison) -> Iterator[str]:
    verdict = (
        "기준 동작과 많이 달라요.",
        "큰 흐름은 맞아요. 아래 관절을 연습해 보세요.",
        "잘했어요. 몇 군데만 다듬으면 돼요.",
        "기준 동작과 아주 비슷해요.",
    )[_grade(c.score)]
    yield f"100점 만점에 {c.score:.0f}점이에요. {verdict}"
    for d in _notable(c):
        yield f"{SIDES_KO[d.side]} {OBJECTS_KO[d.joint]} {abs(d.degrees):.0f}도쯤 더 {_verb_ko(d)}."
    for moment in c.moments[:2]:
        names = ", ".join(_name_ko(name) for name, _ in moment.joints) or "전체 자세"
        yield f"영상의 {moment.video_s:.1f}초쯤에서는 {names}에 신경 써 주세요."
    yield from _time_ko(c)
    if c.mirrored:
        yield "좌우를 바꿔 추어서 기준 동작의 거울상과 비교했어요."
    if c.coverage < 0.98:
        yield f"기준 동작의 {c.coverage:.0%}만 영상에서 찾을 수 있었어요."
    if _unseen(c):
        names = ", ".join(_name_ko(part.name) for part in _unseen(c))
        yield f"보이지 않아 평가하지 못한 부분: {names}. 온몸이 나오도록 조금 뒤로 물러나 주세요."


def _verb_ko(d: Deviation) -> str:
    if d.joint == "shoulder":
        return "올리세요" if d.degrees < 0 else "내리세요"
    return "펴세요" if d.degrees < 0 else "굽히세요"


def _name_ko(name: str) -> str:
    side, _, joint = name.partition("_")
    return f"{SIDES_KO[side]} {JOINTS_KO[joint]}" if joint else {"trunk": "몸통", "head": "머리"}[name]


def _time_ko(c: Comparison) -> Iterator[str]:
    percent = abs(c.tempo.ratio - 1) * 100
    if abs(c.tempo.ratio - 1) >= NOTABLE_TEMPO:
        yield f"기준보다 {percent:.0f}% {'빠르게' if c.tempo.ratio > 1 else '느리게'} 추었어요."
    if NOTABLE_S <= abs(c.tempo.offset_s) <= LARGEST_REPORTED_S:
        yield f"시작이 {abs(c.tempo.offset_s):.1f}초 {'늦어요' if c.tempo.offset_s > 0 else '빨라요'}."
    if c.tempo.rhythm_s >= NOTABLE_S:
        yield f"동작 하나하나가 박자에서 평균 {c.tempo.rhythm_s:.1f}초 벗어나요."
