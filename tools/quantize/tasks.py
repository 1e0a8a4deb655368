"""What a quantized model is judged by: questions with a right answer. And texts to calibrate on, never the same."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.nano_tutor.items import Item

NANO_TUTOR = "nano-tutor"
ARITHMETIC = ("add", "sub", "mul", "div", "eq")
LONGEST_ANSWER = 240


class Refused(Exception):
    """It cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Question:
    prompt: str
    right: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Task:
    """`prompt`s are complete: with the chat template's tokens, where the model needs them."""

    name: str
    questions: list[Question]
    max_new_tokens: int = 256


def task(name: str, count: int) -> Task:
    """The task of that name, or a JSONL file of `{"prompt": …, "answer": …}`; at most `count` questions.

    An answer from a file is right if its last line ends with the expected one.
    """
    if name == NANO_TUTOR:
        return _nano_tutor(count)
    rows = [json.loads(line) for line in _lines(Path(name))]
    return Task(Path(name).stem, [Question(row["prompt"], _ends_with(row["answer"])) for row in rows[:count]])


def calibration(source: str, count: int) -> list[str]:
    """Texts as the model will see and write them: of the nano tutor's training, or the lines of a file.

    A line is a text, or JSON with `text`.
    """
    if source == NANO_TUTOR:
        return _training_texts(count)
    lines = _lines(Path(source))[:count]
    return [json.loads(line)["text"] if line.startswith("{") else line for line in lines]


def _nano_tutor(count: int) -> Task:
    """Arithmetic with operands that training never saw, in equal shares of kind and language; no question twice."""
    from tools.nano_tutor.items import LANGUAGES
    from tools.nano_tutor.tokenizer import prompt

    share = -(-count // (len(ARITHMETIC) * len(LANGUAGES)))
    items = [item for kind in ARITHMETIC for language in LANGUAGES for item in _held_items(kind, language, share)]
    return Task(NANO_TUTOR, [Question(prompt(i.question), _last_line(i.answer)) for i in items], LONGEST_ANSWER)


def _held_items(kind: str, language: str, count: int) -> "list[Item]":
    from tools.nano_tutor.data import DRAWS
    from tools.nano_tutor.items import Draw

    rng = random.Random(f"quantize/{kind}/{language}")
    items: dict[str, Item] = {}
    while len(items) < count:
        item = DRAWS[kind](Draw(rng, language, held_operands=True))
        items.setdefault(item.question, item)
    return list(items.values())


def _training_texts(count: int) -> list[str]:
    from tools.nano_tutor.data import WEIGHTS, training_item
    from tools.nano_tutor.tokenizer import END, prompt

    rng = random.Random("calibration")
    items = [training_item(rng, WEIGHTS) for _ in range(count)]
    return [f"{prompt(item.question)}{item.answer}{END}" for item in items]


def _last_line(expected: str) -> Callable[[str], bool]:
    last = expected.strip().split("\n")[-1]
    return lambda answer: answer.strip().split("\n")[-1] == last


def _ends_with(expected: str) -> Callable[[str], bool]:
    return lambda answer: answer.strip().split("\n")[-1].endswith(expected.strip())


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise Refused(f"there is no file '{file}'; give one text a line, or '{NANO_TUTOR}'")
    return [line for line in file.read_text("utf-8").splitlines() if line.strip()]
