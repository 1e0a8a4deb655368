"""The four operations and linear equations."""

import random
import re

from tools.nano_tutor import steps
from tools.nano_tutor.items import Draw, Item, ask, item, phrase, pick, until_split


def number(rng: random.Random, weights: tuple[float, ...]) -> int:
    """A number whose count of digits follows `weights` (one digit first)."""
    size = rng.choices(range(1, len(weights) + 1), weights)[0]
    return rng.randint(10 ** (size - 1) if size > 1 else 1, 10**size - 1)


def arithmetic(kind: str, draw: Draw, a: int, b: int, story: bool = True) -> Item:
    question = ask(draw, kind, {"a": str(a), "b": str(b)}, story)
    lines = {"add": steps.add_steps, "sub": steps.sub_steps, "mul": steps.mul_steps, "div": steps.div_steps}[kind](a, b)
    exact = kind != "div" or a % b == 0
    value = {"add": a + b, "sub": a - b, "mul": a * b, "div": a // b}[kind]
    return item(kind if exact else "inexact", question, lines, str(value) if exact else None)


def draw_add(draw: Draw) -> Item:
    rng = draw.rng
    a, b = until_split(draw, "add", lambda: (number(rng, (1, 3, 5)), number(rng, (1, 3, 5))))
    return arithmetic("add", draw, a, b)


def draw_sub(draw: Draw) -> Item:
    rng = draw.rng

    def sample() -> tuple[int, int]:
        a, b = number(rng, (1, 3, 6)), number(rng, (1, 3, 5))
        return (a, b) if a >= b or rng.random() < 0.3 else (b, a)

    a, b = until_split(draw, "sub", sample)
    return arithmetic("sub", draw, a, b, story=a >= b)


def draw_mul(draw: Draw) -> Item:
    rng = draw.rng
    a, b = until_split(draw, "mul", lambda: (number(rng, (1, 3)), number(rng, (1, 2))))
    return arithmetic("mul", draw, a, b)


def draw_div(draw: Draw) -> Item:
    rng = draw.rng

    def sample() -> tuple[int, int]:
        divisor = rng.choices(range(1, 10), (1, 5, 6, 7, 6, 7, 8, 8, 8))[0]
        quotient = rng.randint(1, 999 // divisor) if rng.random() < 0.7 else rng.randint(1, 30)
        return min(quotient, 999 // divisor) * divisor, divisor

    return arithmetic("div", draw, *until_split(draw, "div", sample))


def draw_div_inexact(draw: Draw) -> Item:
    rng = draw.rng

    def sample() -> tuple[int, int]:
        divisor = rng.randint(2, 9)
        a = number(rng, (1, 3, 5))
        return (a, divisor) if a % divisor else (a + 1 if a % 10 < 9 else a - 1, divisor)

    return arithmetic("div", draw, *until_split(draw, "div", sample))


def equation_surface(rng: random.Random, a: int, b: int, c: int, x: str) -> str:
    """One of the ways to write a x + b = c."""
    head = x if a == 1 else f"{a}{rng.choice(['', '', '', '', '', '*', '×', '·'])}{x}"
    left = f"{head}{b:+d}" if b else head
    if b > 0 and rng.random() < 0.12:
        left = f"{b}+{head}"
    text = f"{left}={c}" if rng.random() < 0.9 else f"{c}={left}"
    return re.sub(r"([+=-])", r" \1 ", text) if rng.random() < 0.5 else text


def equation_item(draw: Draw, a: int, b: int, c: int) -> Item:
    rng = draw.rng
    in_words = a > 1 and b != 0 and rng.random() < 0.3
    x = "x" if in_words else rng.choice("xxxxxxynabtz")
    if in_words:
        template = pick(draw, "core eq_words", "+" if b > 0 else "-")
        question = phrase(draw, template, {"a": str(a), "b": str(abs(b)), "c": str(c), "x": x})
    else:
        question = ask(draw, "eq", {"e": equation_surface(rng, a, b, c, x), "x": x})
    exact = (c - b) % a == 0
    return item(
        "eq" if exact else "inexact",
        question,
        steps.equation_steps(a, b, c, x),
        f"{x} = {(c - b) // a}" if exact else None,
    )


def sample_equation(rng: random.Random, exact: bool) -> tuple[int, int, int]:
    while True:
        a = rng.choices(range(1, 10), (1, 3, 3, 3, 3, 3, 3, 3, 3))[0]
        b = 0 if rng.random() < 0.05 else number(rng, (2, 5)) * rng.choice((1, 1, -1))
        root = rng.randint(1, 20) if rng.random() < 0.4 else rng.randint(-20, 99)
        c = a * root + b + (0 if exact or a == 1 else rng.randint(1, a - 1))
        if 0 <= c <= 999 and (a > 1 or b) and (exact or a > 1):
            return a, b, c


def draw_eq(draw: Draw) -> Item:
    return equation_item(draw, *until_split(draw, "eq", lambda: sample_equation(draw.rng, exact=True)))


def draw_eq_inexact(draw: Draw) -> Item:
    return equation_item(draw, *until_split(draw, "eq", lambda: sample_equation(draw.rng, exact=False)))
