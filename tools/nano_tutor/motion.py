"""The fixed form of a motion report that the tutor turns into coaching sentences.

    motion report: score 72; left elbow 24 deg low; right knee 11 deg high; timing 0.3 s late
    동작 보고: 점수 72; 왼쪽 팔꿈치 24도 낮음; 오른쪽 무릎 11도 높음; 박자 0.3초 늦음

At most two joints, the largest deviation first; `low` means that the joint angle is below the reference.
"""

from dataclasses import dataclass

JOINTS = ("elbow", "shoulder", "wrist", "hip", "knee", "ankle")
JOINTS_KO = {"elbow": "팔꿈치", "shoulder": "어깨", "wrist": "손목", "hip": "고관절", "knee": "무릎", "ankle": "발목"}
SIDES_KO = {"left": "왼쪽", "right": "오른쪽"}
MAX_JOINTS = 2
MAX_DEGREES = 120
MAX_DELAY_S = 2.0
ON_TIME_S = 0.05


@dataclass(frozen=True, slots=True)
class JointDeviation:
    """One joint's angle minus the reference angle, in degrees; `side` is left or right, `joint` one of JOINTS."""

    side: str
    joint: str
    degrees: float


def motion_report(score: float, deviations: list[JointDeviation], delay_s: float, language: str) -> str:
    """Writes the report: score 0-100, the worst joints, timing (`delay_s` > 0 is late); language is "ko" or "en".

    Deviations above `MAX_DEGREES` and delays above `MAX_DELAY_S` are reported as these limits.
    """
    rounded = [(d, min(round(abs(d.degrees)), MAX_DEGREES)) for d in deviations]
    score, delay_s = min(max(score, 0), 100), min(max(delay_s, -MAX_DELAY_S), MAX_DELAY_S)
    worst = sorted((d for d in rounded if d[1] > 0), key=lambda d: -d[1])[:MAX_JOINTS]
    korean = language == "ko"
    parts = [f"점수 {round(score)}" if korean else f"score {round(score)}"]
    parts += [_joint_ko(d, size) if korean else _joint_en(d, size) for d, size in worst]
    parts.append(_timing_ko(delay_s) if korean else _timing_en(delay_s))
    return ("동작 보고: " if korean else "motion report: ") + "; ".join(parts)


def _joint_en(d: JointDeviation, size: int) -> str:
    return f"{d.side} {d.joint} {size} deg {'low' if d.degrees < 0 else 'high'}"


def _joint_ko(d: JointDeviation, size: int) -> str:
    return f"{SIDES_KO[d.side]} {JOINTS_KO[d.joint]} {size}도 {'낮음' if d.degrees < 0 else '높음'}"


def _timing_en(delay_s: float) -> str:
    if abs(delay_s) < ON_TIME_S:
        return "timing on time"
    return f"timing {abs(delay_s):.1f} s {'late' if delay_s > 0 else 'early'}"


def _timing_ko(delay_s: float) -> str:
    if abs(delay_s) < ON_TIME_S:
        return "박자 정확"
    return f"박자 {abs(delay_s):.1f}초 {'늦음' if delay_s > 0 else '빠름'}"


def coaching(score: int, deviations: list[JointDeviation], delay_s: float, language: str) -> str:
    """The answer that the tutor is trained to give to `motion_report(...)`; deviations already cut and sorted."""
    if language == "ko":
        return _coaching_ko(score, deviations, delay_s)
    return _coaching_en(score, deviations, delay_s)


def _grade(score: int) -> int:
    return (score >= 50) + (score >= 70) + (score >= 90)


def _coaching_en(score: int, deviations: list[JointDeviation], delay_s: float) -> str:
    opener = ("keep practising", "you are getting there", "good work", "excellent")[_grade(score)]
    verbs = {"shoulder": ("raise", "lower")}
    moves = []
    for d in deviations:
        verb = verbs.get(d.joint, ("straighten", "bend"))[d.degrees > 0]
        moves.append(f"{verb} your {d.side} {d.joint} {abs(d.degrees):.0f} degrees")
    joints = f"Please {' and '.join(moves)} more." if moves else "Your joints match the reference."
    return f"Score {score}, {opener}. {joints} {_advice_en(delay_s)}"


def _advice_en(delay_s: float) -> str:
    if abs(delay_s) < ON_TIME_S:
        return "Your timing is right."
    state, change = ("late", "earlier") if delay_s > 0 else ("early", "later")
    return f"You are {abs(delay_s):.1f} s {state}, so move a little {change}."


def _coaching_ko(score: int, deviations: list[JointDeviation], delay_s: float) -> str:
    opener = ("계속 연습해요", "점점 좋아지고 있어요", "잘했어요", "훌륭해요")[_grade(score)]
    stems = {"shoulder": ("올리", "내리")}
    moves = []
    for i, d in enumerate(deviations):
        stem = stems.get(d.joint, ("펴", "굽히"))[d.degrees > 0]
        particle = "을" if d.joint in ("wrist", "hip", "knee", "ankle") else "를"
        ending = "세요" if i == len(deviations) - 1 else "고"
        moves.append(f"{SIDES_KO[d.side]} {JOINTS_KO[d.joint]}{particle} {abs(d.degrees):.0f}도 더 {stem}{ending}")
    joints = f"{', '.join(moves)}." if moves else "관절 각도가 기준과 잘 맞아요."
    return f"{score}점, {opener}. {joints} {_advice_ko(delay_s)}"


def _advice_ko(delay_s: float) -> str:
    if abs(delay_s) < ON_TIME_S:
        return "박자도 정확해요."
    if delay_s > 0:
        return f"박자가 {delay_s:.1f}초 늦으니 조금 더 일찍 움직이세요."
    return f"박자가 {-delay_s:.1f}초 빠르니 조금 더 천천히 움직이세요."
