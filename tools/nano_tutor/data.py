"""All kinds of questions in one table. The same generator feeds training and evaluation."""

import random
from collections.abc import Callable

from tools.nano_tutor.arithmetic import (
    draw_add,
    draw_div,
    draw_div_inexact,
    draw_eq,
    draw_eq_inexact,
    draw_mul,
    draw_sub,
)
from tools.nano_tutor.items import ANSWER, DECLINE, INEXACT, LANGUAGES, Draw, Item, answer_language
from tools.nano_tutor.measures import draw_pct, draw_pct_inexact, draw_unit, draw_unit_inexact
from tools.nano_tutor.words import draw_def, draw_hello, draw_motion, draw_near, draw_off

__all__ = [
    "ANSWER",
    "DECLINE",
    "DRAWS",
    "INEXACT",
    "LANGUAGES",
    "WEIGHTS",
    "Draw",
    "Item",
    "answer_language",
    "evaluation_items",
    "training_item",
]


def draw_inexact(draw: Draw) -> Item:
    """Questions whose result is not whole: the tutor finds out on the way and stops."""
    draws = (draw_div_inexact, draw_eq_inexact, draw_unit_inexact, draw_pct_inexact)
    return draw.rng.choices(draws, (4, 3, 1.5, 1.5))[0](draw)


DRAWS: dict[str, Callable[[Draw], Item]] = {
    "add": draw_add,
    "sub": draw_sub,
    "mul": draw_mul,
    "div": draw_div,
    "eq": draw_eq,
    "unit": draw_unit,
    "pct": draw_pct,
    "def": draw_def,
    "motion": draw_motion,
    "hello": draw_hello,
    "near": draw_near,
    "inexact": draw_inexact,
    "off": draw_off,
}
WEIGHTS = {
    "add": 1.4,
    "sub": 1.4,
    "mul": 1.2,
    "div": 1.2,
    "eq": 1.5,
    "unit": 1.0,
    "pct": 1.0,
    "def": 0.7,
    "motion": 0.5,
    "hello": 0.25,
    "near": 1.4,
    "inexact": 0.6,
    "off": 0.5,
}


def training_item(rng: random.Random, weights: dict[str, float]) -> Item:
    kind = rng.choices(list(weights), list(weights.values()))[0]
    return DRAWS[kind](Draw(rng, rng.choice(LANGUAGES), noisy=True))


def evaluation_items(kind: str, language: str, wording: str, count: int, seed: int = 7) -> list[Item]:
    """A fixed set of one cell: operands never seen in training, wordings seen or not; no question twice."""
    rng = random.Random(f"{seed}/{kind}/{language}/{wording}")
    items: dict[str, Item] = {}
    for _ in range(count * 40):
        drawn = DRAWS[kind](Draw(rng, language, held_operands=True, wording=wording))
        items.setdefault(drawn.question, drawn)
        if len(items) == count:
            break
    return list(items.values())
