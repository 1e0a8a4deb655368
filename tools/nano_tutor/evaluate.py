"""Evaluates the served artefact (CTranslate2 int8, greedy): `python -m tools.nano_tutor.evaluate --check`.

One cell per kind of question, language and wording (seen or never seen in training); operands are never seen anywhere.
Needs ctranslate2 and tokenizers only.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ctranslate2
from tokenizers import Tokenizer

from tools.nano_tutor import data
from tools.nano_tutor.tokenizer import END, prompt

ARTEFACT = Path("models/nano-tutor")
BATCH = 64
MAX_NEW_TOKENS = 240
FIXED_FORM = ("motion",)
DECLINES = ("near", "inexact", "off")
DECLINED = (*data.DECLINE.values(), *data.INEXACT.values())
FREE_QUESTIONS = Path(__file__).parent / "free_questions.tsv"
ARITHMETIC = ("add", "sub", "mul", "div", "eq")
SEEN_TARGET = {kind: 0.97 if kind in ARITHMETIC else 0.95 for kind in data.DRAWS}
UNSEEN_TARGET = 0.90
COLUMNS = {"seen": "seen", "held": "unseen", "dev": "unseen"}


@dataclass(frozen=True, slots=True)
class Cell:
    kind: str
    language: str
    wording: str
    n: int
    right: int
    whole_answer: int
    """Answers that match the reference word for word, steps included."""
    target: float

    @property
    def share(self) -> float:
        return self.right / self.n

    @property
    def passed(self) -> bool:
        return self.share >= self.target


@dataclass(frozen=True, slots=True)
class FreeAnswer:
    question: str
    expected: str
    answer: str
    right: bool


class Tutor:
    """The artefact behind a function from questions to answers."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.generator = ctranslate2.Generator(str(folder / "ct2-int8"), compute_type="int8", intra_threads=threads)

    def answers(self, questions: Sequence[str]) -> list[str]:
        prompts = [self.tokenizer.encode(prompt(q)).tokens for q in questions]
        results = self.generator.generate_batch(
            prompts,
            max_batch_size=BATCH,
            sampling_topk=1,
            max_length=MAX_NEW_TOKENS,
            include_prompt_in_result=False,
            end_token=END,
        )
        return [self.tokenizer.decode(r.sequences_ids[0]) for r in results]


def is_right(item: data.Item, answer: str) -> bool:
    """The last line carries the result; a decline is right if it declines, whichever of the two ways it takes."""
    last = answer.strip().split("\n")[-1]
    if item.kind in DECLINES:
        return last in DECLINED
    return last == item.answer.split("\n")[-1]


def run_cell(tutor: Tutor, kind: str, language: str, drawn: str, count: int) -> tuple[Cell, list[dict[str, str]]]:
    items = data.evaluation_items(kind, language, drawn, count)
    answers = tutor.answers([item.question for item in items])
    verdicts = [is_right(item, answer) for item, answer in zip(items, answers, strict=True)]
    whole = sum(item.answer == answer.strip() for item, answer in zip(items, answers, strict=True))
    wrong = [
        {"kind": kind, "question": i.question, "expected": i.answer, "answer": a}
        for i, a, ok in zip(items, answers, verdicts, strict=True)
        if not ok
    ]
    wording = "fixed" if kind in FIXED_FORM else COLUMNS[drawn]
    target = SEEN_TARGET[kind] if drawn == "seen" else UNSEEN_TARGET
    return Cell(kind, language, wording, len(items), sum(verdicts), whole, target), wrong


def run_free(tutor: Tutor) -> list[FreeAnswer]:
    """Hand-written questions that no template produced; an expected `-` means that the tutor must decline."""
    lines = [line.split("\t") for line in FREE_QUESTIONS.read_text(encoding="utf-8").splitlines()]
    answers = tutor.answers([question for question, _ in lines])
    return [FreeAnswer(q, e, a, fits(e, a)) for (q, e), a in zip(lines, answers, strict=True)]


def fits(expected: str, answer: str) -> bool:
    last = answer.strip().split("\n")[-1]
    if expected == "-":
        return last in DECLINED
    if expected[-1].isdigit() or expected[0].isdigit():
        return last.endswith(f": {expected}")
    return expected.lower() in answer.lower() and last not in DECLINED


def free_summary(answers: list[FreeAnswer]) -> str:
    solvable = [a for a in answers if a.expected != "-"]
    beyond = [a for a in answers if a.expected == "-"]
    return (
        f"hand-written: {sum(a.right for a in solvable)} of {len(solvable)} solved, "
        f"{sum(a.right for a in beyond)} of {len(beyond)} declined"
    )


def table(cells: list[Cell]) -> str:
    """Markdown: one row per kind, one column per language and wording."""
    columns = [(language, wording) for wording in ("seen", "unseen") for language in data.LANGUAGES]
    heads = " | ".join(f"{language}, {wording} wordings" for language, wording in columns)
    lines = [f"| kind | {heads} |", "|---" * (len(columns) + 1) + "|"]
    by_place = {(c.kind, c.language, "seen" if c.wording == "fixed" else c.wording): c for c in cells}
    for kind in dict.fromkeys(cell.kind for cell in cells):
        found = [by_place.get((kind, *column)) for column in columns]
        lines.append(f"| {kind} | " + " | ".join(f"{100 * c.share:.1f} % ({c.n})" if c else "-" for c in found) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ARTEFACT)
    parser.add_argument("--count", type=int, default=300, help="items per cell")
    parser.add_argument("--kinds", nargs="*", default=list(data.DRAWS), choices=list(data.DRAWS))
    parser.add_argument("--unseen", default="held", choices=("held", "dev"), help="dev: while working on the recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write cells and wrong answers to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a cell misses its target")
    options = parser.parse_args()
    tutor, cells, wrong, start = Tutor(options.model, options.threads), [], [], time.monotonic()
    for kind in options.kinds:
        for language in data.LANGUAGES:
            for drawn in ["seen"] if kind in FIXED_FORM else ["seen", options.unseen]:
                cell, missed = run_cell(tutor, kind, language, drawn, options.count)
                cells.append(cell)
                wrong += missed
    print(table(cells))
    missed_cells = [c for c in cells if not c.passed]
    for c in missed_cells:
        print(f"missed: {c.kind} {c.language} {c.wording}: {100 * c.share:.1f} % < {100 * c.target:.0f} %")
    free = run_free(tutor)
    print(free_summary(free))
    print(f"{sum(c.n for c in cells)} questions in {time.monotonic() - start:.0f} s")
    if options.json:
        content = {"cells": [asdict(c) for c in cells], "wrong": wrong, "free": [asdict(a) for a in free]}
        options.json.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 1 if options.check and missed_cells else 0


if __name__ == "__main__":
    sys.exit(main())
