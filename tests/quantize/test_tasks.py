"""What a quantized model is calibrated on and judged by."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.nano_tutor.tokenizer import prompt
from tools.quantize.recipes import group_size
from tools.quantize.tasks import NANO_TUTOR, Refused, _held_items, calibration, task


def test_the_tutors_questions_are_told_right_from_wrong() -> None:
    judged = task(NANO_TUTOR, 300)
    assert len(judged.questions) == len({q.prompt for q in judged.questions}) == 300
    assert all(q.prompt.startswith("<|user|>") and q.prompt.endswith("<|bot|>") for q in judged.questions)
    first = judged.questions[0]
    assert not first.right("")
    assert not first.right("Answer: -1")


def test_the_last_line_decides() -> None:
    item = _held_items("add", "en", 1)[0]
    question = task(NANO_TUTOR, 300).questions[0]
    assert question.prompt == prompt(item.question)
    assert question.right(item.answer)
    assert question.right(f"other steps\n{item.answer.splitlines()[-1]}\n")
    assert not question.right(f"{item.answer}\nand more")


def test_nothing_that_is_asked_was_calibrated_on() -> None:
    asked = {q.prompt for q in task(NANO_TUTOR, 300).questions}
    texts = calibration(NANO_TUTOR, 64)
    assert len(texts) == 64
    assert not [text for text in texts if any(text.startswith(question) for question in asked)]
    assert texts == calibration(NANO_TUTOR, 64)


def test_files(tmp_path: Path) -> None:
    lines = tmp_path / "texts.jsonl"
    lines.write_text('plain text\n\n{"text": "한국어"}\n', "utf-8")
    assert calibration(str(lines), 10) == ["plain text", "한국어"]
    questions = tmp_path / "exam.jsonl"
    questions.write_text(json.dumps({"prompt": "1+1", "answer": "2"}), "utf-8")
    judged = task(str(questions), 10)
    assert (judged.name, judged.questions[0].right("so\nit is 2"), judged.questions[0].right("3")) == (
        "exam",
        True,
        False,
    )
    with pytest.raises(Refused, match="there is no file"):
        calibration(str(tmp_path / "none"), 1)


@pytest.mark.parametrize(
    ("hidden", "intermediate", "asked", "group"),
    [(256, 640, None, 128), (3584, 18944, None, 128), (320, 960, None, 64), (256, 640, 64, 64)],
)
def test_groups_divide_every_matrix(hidden: int, intermediate: int, asked: int | None, group: int) -> None:
    config = SimpleNamespace(
        hidden_size=hidden, intermediate_size=intermediate, num_attention_heads=hidden // 64, head_dim=64
    )
    assert group_size(config, asked) == group


def test_a_group_that_does_not_divide_is_refused() -> None:
    config = SimpleNamespace(hidden_size=256, intermediate_size=640, num_attention_heads=4, head_dim=64)
    with pytest.raises(Refused, match="no group size divides 256, 640"):
        group_size(config, 256)
