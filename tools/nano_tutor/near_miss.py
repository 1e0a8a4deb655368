"""Questions just outside of the tutor's scope, most of them in the wordings of solvable ones."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from tools.nano_tutor.items import Draw, pick
from tools.nano_tutor.wordings import odd_equations, wordings

EXPRESSION = re.compile(r"\(?\{a\}[ +×*÷/()-]+\{b\}[ +×*÷/()-]+\{c\}\)?")
SIGNS = {"add": "+", "sub": "-", "mul": "×", "div": "÷"}


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A question beyond the scope: slots for the cores of `kind` or for a template of its own.

    `read` is what the tutor writes down before it sees that it must stop, None where it declines at once. Operands that
    stand next to each other are easier to judge than operands somewhere in a story.
    """

    kind: str
    slots: dict[str, str]
    template: str | None = None
    read: str | None = None


def _digits(rng: random.Random, size: int) -> str:
    return str(rng.randint(10 ** (size - 1), 10**size - 1))


def _decimal(rng: random.Random) -> str:
    return f"{rng.randint(0, 99)}.{rng.choice(['5', '2', str(rng.randint(1, 9)), str(rng.randint(11, 99))])}"


def _odd_operand(rng: random.Random) -> str:
    """A number that the tutor must not take: decimal, fraction or negative."""
    choices: list[Callable[[], str]] = [
        lambda: _decimal(rng),
        lambda: _decimal(rng),
        lambda: _decimal(rng),
        lambda: f"{rng.randint(1, 9)}/{rng.randint(2, 9)}",
        lambda: f"(-{rng.randint(1, 99)})",
    ]
    return rng.choice(choices)()


def _plain(rng: random.Random) -> str:
    return _digits(rng, rng.choice((1, 2, 2, 3)))


def odd_operands(rng: random.Random, language: str) -> NearMiss:
    """Decimals, fractions, negative or spelled-out numbers in place of one or both operands."""
    kind, words = rng.choice(list(SIGNS)), wordings(language).lines("number words")
    spelled = rng.random() < 0.16
    odd = (lambda: rng.choice(words)) if spelled else (lambda: _odd_operand(rng))
    a, b, side = odd(), odd(), rng.random()
    if side < 0.4:
        b = _plain(rng) if kind in ("add", "sub") else str(rng.randint(2, 9))
    elif side < 0.75:
        a = _plain(rng)
    return NearMiss(kind, {"a": a, "b": b}, read=None if spelled else a + SIGNS[kind] + b)


def too_long(rng: random.Random) -> NearMiss:
    """Operands with too many digits, divisors of two digits, division by zero."""
    kind = rng.choice(("add", "sub", "mul", "mul", "div", "div"))
    if kind in ("add", "sub"):
        a, b = _digits(rng, rng.choice((4, 4, 5, 6))), _digits(rng, rng.choice((1, 2, 3, 4)))
        if rng.random() < (0.5 if kind == "add" else 0.2):
            a, b = b, a
    elif kind == "mul":
        a, b = _digits(rng, rng.choice((3, 3, 4))), _digits(rng, rng.choice((1, 2, 2, 3)))
        if rng.random() < 0.5:
            a, b = b, a
    elif rng.random() < 0.65:
        divisor = rng.randint(10, 99) if rng.random() < 0.85 else 0
        a, b = str(divisor * rng.randint(2, 12) or rng.randint(5, 300)), str(divisor)
    else:
        a, b = _digits(rng, rng.choice((4, 4, 5))), str(rng.randint(2, 9))
    return NearMiss(kind, {"a": a, "b": b}, read=a + SIGNS[kind] + b)


def three_operands(draw: Draw) -> NearMiss:
    rng, template = draw.rng, pick(draw, "three operands")
    slots = {"a": _plain(rng), "b": _digits(rng, rng.choice((1, 2, 2))), "c": _digits(rng, rng.choice((1, 1, 2)))}
    written = EXPRESSION.search(template)
    read = written[0].replace(" ", "").replace("*", "×").replace("/", "÷").format(**slots) if written else None
    return NearMiss("add", slots, template, read)


def other_maths(draw: Draw) -> NearMiss:
    rng, template = draw.rng, pick(draw, "other maths")
    slots = {
        "a": _plain(rng),
        "b": _digits(rng, 2),
        "c": _digits(rng, 2),
        "d": str(rng.randint(2, 9)),
        "p": str(rng.randrange(5, 60, 5)),
    }
    return NearMiss("add", slots, template)


def odd_equation(rng: random.Random) -> NearMiss:
    x, y = rng.choice((("x", "y"), ("x", "y"), ("a", "b"), ("y", "z"), ("n", "m")))
    text = rng.choice(odd_equations())
    a, e = str(rng.randint(2, 9)), str(rng.randint(2, 9))
    slots = {
        "d": a,
        "e": e,
        "b": _digits(rng, rng.choice((1, 1, 2))),
        "c": _digits(rng, rng.choice((2, 2, 3))),
        "x": x,
        "y": y,
    }
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    plain = text.replace(" ", "")
    return NearMiss("eq", {"e": plain if rng.random() < 0.3 else text, "x": x}, read=plain)


def odd_unit(rng: random.Random, language: str) -> NearMiss:
    """Units that the tutor does not know, pairs that it does not convert, decimal amounts."""
    words, roll, value = wordings(language), rng.random(), _plain(rng)
    if roll < 0.4:
        foreign = words.lines("foreign units")
        pair = [rng.choice(foreign), rng.choice(words.lines("known units") + foreign)]
        rng.shuffle(pair)
    elif roll < 0.7:
        pair = list(rng.choice(words.pairs("mismatched units")))
    else:
        value = _decimal(rng) if rng.random() < 0.8 else f"{rng.randint(1, 5)}/{rng.randint(2, 9)}"
        pair = list(rng.choice(words.pairs("plain conversions")))
        if rng.random() < 0.2:
            pair.reverse()
    gap = " " if language == "en" or rng.random() < 0.3 else ""
    return NearMiss("unit", {"x": f"{value}{gap}{pair[0]}", "w": pair[1]})


def odd_percent(rng: random.Random, language: str) -> NearMiss:
    roll = rng.random()
    if roll < 0.4:
        p, n = f"{rng.randint(1, 50)}.{rng.randint(1, 9)}", str(rng.randint(1, 99) * 10)
    elif roll < 0.6:
        p, n = str(rng.randrange(5, 100, 5)), _decimal(rng)
    elif roll < 0.9:
        p, n = str(rng.randrange(5, 100, 5)), _digits(rng, rng.choice((4, 4, 5)))
    else:
        p, n = str(rng.randrange(110, 400, 10)), str(rng.randint(1, 99) * 10)
    return NearMiss("pct", {"p": p, "n": n}, read=f"{p}% of {n}" if language == "en" else f"{n}의 {p}%")


def near_miss_question(draw: Draw) -> NearMiss:
    rng, language = draw.rng, draw.language
    roll = rng.random()
    if roll < 0.26:
        return odd_operands(rng, language)
    if roll < 0.46:
        return too_long(rng)
    if roll < 0.62:
        return three_operands(draw)
    if roll < 0.76:
        return other_maths(draw)
    if roll < 0.86:
        return odd_equation(rng)
    if roll < 0.94:
        return odd_unit(rng, language)
    return odd_percent(rng, language)
