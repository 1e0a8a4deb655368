"""The generator must be right: what it writes is what the tutor will say."""

import random
import re

import pytest

from tools.nano_tutor import data, motion, steps
from tools.nano_tutor.grammar import expand
from tools.nano_tutor.wordings import terms, wordings

DRAWS_PER_CELL = 120
EXPRESSION = re.compile(r"(\d+(?:[+×-]\d+)+)=(\d+)(?:\+(\d+)=(\d+))?")
DIVISION_COLUMN = re.compile(r"(\d+)=(\d+)×(\d+)\+(\d+)$")


def draws(
    kind: str, language: str, held_operands: bool = False, wording: str = "seen", noisy: bool = False
) -> list[data.Item]:
    draw = data.Draw(random.Random(f"{kind}{language}"), language, held_operands, wording, noisy)
    return [data.DRAWS[kind](draw) for _ in range(DRAWS_PER_CELL)]


def value_of(expression: str) -> int:
    """Value of an expression made of +, - and ×."""
    assert re.fullmatch(r"[\d+×-]+", expression)
    total = 0
    for sign, term in re.findall(r"([+-]?)(\d+(?:×\d+)*)", expression):
        product = 1
        for factor in term.split("×"):
            product *= int(factor)
        total += -product if sign == "-" else product
    return total


@pytest.mark.parametrize("language", data.LANGUAGES)
@pytest.mark.parametrize("kind", ["add", "sub", "mul", "div", "eq", "unit", "pct", "inexact"])
def test_every_step_is_true(kind: str, language: str) -> None:
    for item in draws(kind, language):
        columns = [c for line in item.answer.split("\n") for c in line.split(" → ")[0].split(": ")[-1].split(", ")]
        for column in columns:
            division = DIVISION_COLUMN.match(column)
            if division:
                whole, divisor, quotient, rest = map(int, division.groups())
                assert whole == divisor * quotient + rest, item.answer
                assert rest < divisor, item.answer
            elif re.fullmatch(r"[\d+×=-]+", column) and not column.endswith("=") and "=-" not in column:
                values = {value_of(part) for part in column.split("=")}
                assert len(values) == 1, item.answer


@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
def test_final_value_follows_from_the_first_line(kind: str) -> None:
    for item in draws(kind, "en"):
        expression = item.answer.split("\n")[0].split("=")[0]
        assert item.final == str(value_of(expression))
        assert item.answer.endswith(f"Answer: {item.final}")


def test_division_and_equation_finals_check_out() -> None:
    for item in draws("div", "ko"):
        a, b = map(int, item.answer.split("\n")[0].split("÷"))
        assert int(item.final or "") * b == a
    for item in draws("eq", "en"):
        match = re.fullmatch(r"(\d*)([a-z])([+-]\d+)?=(\d+)", item.answer.split("\n")[0])
        assert match
        assert item.final
        a, root = int(match.group(1) or 1), int(item.final.split("= ")[1])
        assert a * root + int(match.group(3) or 0) == int(match.group(4))


def test_inexact_answers_give_no_value() -> None:
    for language in data.LANGUAGES:
        for item in draws("inexact", language):
            assert item.final is None
            assert item.answer.endswith(data.INEXACT[language])
            assert data.ANSWER[language] not in item.answer


@pytest.mark.parametrize("language", data.LANGUAGES)
@pytest.mark.parametrize("kind", list(data.DRAWS))
def test_answer_language_follows_the_question(kind: str, language: str) -> None:
    assert all(data.answer_language(item.question) == language for item in draws(kind, language))


def test_held_out_operands_are_disjoint() -> None:
    for kind in ("add", "sub", "mul", "div"):
        seen = {item.answer.split("\n")[0] for item in draws(kind, "en")}
        held = {item.answer.split("\n")[0] for item in draws(kind, "en", held_operands=True)}
        assert seen.isdisjoint(held)


@pytest.mark.parametrize("language", data.LANGUAGES)
def test_held_out_wordings_are_disjoint(language: str) -> None:
    sections = wordings(language).sections
    held = [name for name in sections if name.endswith((" held", " dev"))]
    assert len(held) > 20
    for name in held:
        assert set(sections[name]).isdisjoint(sections[name.rsplit(" ", 1)[0]]), name


@pytest.mark.parametrize("language", data.LANGUAGES)
def test_terms_to_leave_alone_are_not_defined(language: str) -> None:
    known = {name for term in terms(language) for name in term.names}
    for section in ("other terms", "other terms held"):
        assert known.isdisjoint(wordings(language).sections[section])


def test_hundreds_of_wordings_per_kind() -> None:
    for kind in ("add", "sub", "mul", "div", "eq"):
        for language in data.LANGUAGES:
            questions = {re.sub(r"\d+", "#", item.question) for item in draws(kind, language)}
            assert len(questions) > 0.7 * DRAWS_PER_CELL


def test_evaluation_items_are_fixed_and_distinct() -> None:
    first = data.evaluation_items("add", "ko", "held", 50)
    assert first == data.evaluation_items("add", "ko", "held", 50)
    assert len({item.question for item in first}) == 50


def test_no_template_leftovers() -> None:
    for kind in data.DRAWS:
        for language in data.LANGUAGES:
            for wording, noisy in (("seen", False), ("seen", True), ("dev", False), ("held", False)):
                for item in draws(kind, language, wording=wording, noisy=noisy):
                    assert not re.search(r"[{}\[\]|]|<\w+>|[가-힣]/[가-힣]", item.question), item.question


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12을/를", "12를"),
        ("13을/를", "13을"),
        ("10으로/로", "10으로"),
        ("8으로/로", "8로"),
        ("사과이/가", "사과가"),
        ("연필과/와", "연필과"),
        ("km을/를", "km를"),
    ],
)
def test_particles_follow_the_sound(text: str, expected: str) -> None:
    assert expand(text, {}, {}, random.Random(0)) == expected


def test_worked_examples() -> None:
    assert steps.add_steps(347, 85) == ["347+85", "7+5=12, 4+8+1=13, 3+0+1=4"]
    assert steps.sub_steps(35, 72) == ["35-72=-(72-35)", "12-5=7, 7-3-1=3"]
    assert steps.mul_steps(73, 4) == ["73×4", "73×4: 3×4=12, 7×4+1=28+1=29 → 292"]
    assert steps.div_steps(133, 7) == ["133÷7", "1=7×0+1, 13=7×1+6, 63=7×9+0"]
    assert steps.equation_steps(4, 38, 110) == [
        "4x+38=110",
        "4x=110-38",
        "10-8=2, 11-3-1=7, 1-0-1=0 → 72",
        "x=72÷4",
        "7=4×1+3, 32=4×8+0 → 18",
    ]


def test_motion_report_has_the_fixed_form() -> None:
    deviations = [
        motion.JointDeviation("right", "knee", 11.4),
        motion.JointDeviation("left", "elbow", -24.0),
        motion.JointDeviation("left", "hip", 3.0),
        motion.JointDeviation("left", "knee", 0.2),
    ]
    assert motion.motion_report(72, deviations, 0.31, "en") == (
        "motion report: score 72; left elbow 24 deg low; right knee 11 deg high; timing 0.3 s late"
    )
    assert motion.motion_report(130, [], -7, "ko") == "동작 보고: 점수 100; 박자 2.0초 빠름"
    assert motion.motion_report(5, [], 0.02, "en") == "motion report: score 5; timing on time"
