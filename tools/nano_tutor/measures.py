"""Unit conversions and percentages."""

import math
import random
from functools import cache

from tools.nano_tutor import steps
from tools.nano_tutor.arithmetic import number
from tools.nano_tutor.items import HANGUL, Draw, Item, answer_language, ask, item, until_split
from tools.nano_tutor.wordings import wordings

ONE_WAY = (24, 12)
"""Factors that only go to the smaller unit: the way back would need a divisor of two digits."""
WORKED = (60, 24, 12, 7)
"""Factors that are worked out column by column; the others only move zeros."""
LARGEST_WORKED = 99
Factor = tuple[str, str, int]


@cache
def factors(language: str) -> list[Factor]:
    """Bigger unit, smaller unit and how many of these make one."""
    return [(big, small, int(count)) for big, small, count in wordings(language).pairs("unit factors")]


@cache
def spellings(language: str) -> dict[str, list[str]]:
    """How questions write the units; the key is how answers write them."""
    return {symbol: options.split("|") for symbol, options in wordings(language).pairs("unit spellings")}


def quantity(value: str | int, symbol: str) -> str:
    """Value with its unit: Hangul units follow without a space."""
    return f"{value}{'' if HANGUL.search(symbol) else ' '}{symbol}"


def surface(draw: Draw, symbol: str) -> str:
    return draw.rng.choice(spellings(draw.language)[symbol])


def unit_question(draw: Draw, value: str | int, source: str, target: str) -> str:
    source_text, rng = surface(draw, source), draw.rng
    hangul = HANGUL.search(source_text) is not None
    tight = (hangul and rng.random() < 0.85) or (len(source_text) < 3 and rng.random() < 0.4)
    return ask(draw, "unit", {"x": f"{value}{'' if tight else ' '}{source_text}", "w": surface(draw, target)})


def unit_item(draw: Draw, value: int, source: str, target: str, factor: int, up: bool) -> Item:
    """Converts to the smaller unit, or `up` to the larger one."""
    question = unit_question(draw, value, source, target)
    sign = "÷" if up else "×"
    lines = [f"{quantity(value, source)} = {quantity(f'{value}{sign}{factor}', target)}"]
    if not up:
        if factor in WORKED:
            lines += steps.mul_lines(value, factor)
        return item("unit", question, lines, quantity(value * factor, target))
    exact = value % factor == 0
    if factor in (60, 7) and (factor == 7 or value % 10 == 0):
        short, divisor = (value // 10, 6) if factor == 60 else (value, 7)
        result = f" → {short // divisor}" if exact else ""
        lines.append(f"{short}÷{divisor}: {steps.div_columns(short, divisor)}{result}")
    return item("unit" if exact else "inexact", question, lines, quantity(value // factor, target) if exact else None)


def sample_unit(draw: Draw, exact: bool) -> tuple[int, str, str, int, bool]:
    rng = draw.rng
    big, small, factor = rng.choice(factors(draw.language))
    up = factor not in ONE_WAY and (not exact or rng.random() < 0.45)
    limit = LARGEST_WORKED if factor in WORKED else 999
    value = min(number(rng, (3, 4, 2)), limit)
    if up:
        value *= factor
        if not exact:
            value = max(1, value + rng.choice((-1, 1)) * rng.randint(1, max(1, factor // 2)))
            if factor >= 60 and rng.random() < 0.7:
                value = max(10, value // 10 * 10)
    return value, big, small, factor, up


def draw_unit(draw: Draw, exact: bool = True) -> Item:
    while True:
        value, big, small, factor, up = until_split(draw, "unit", lambda: sample_unit(draw, exact))
        if exact != (not up or value % factor == 0):
            continue
        source, target = (small, big) if up else (big, small)
        return unit_item(draw, value, source, target, factor, up)


def draw_unit_inexact(draw: Draw) -> Item:
    return draw_unit(draw, exact=False)


def percent_item(draw: Draw, p: int, n: int) -> Item:
    question = ask(draw, "pct", {"p": str(p), "n": str(n)})
    head = f"{n}의 {p}%" if answer_language(question) == "ko" else f"{p}% of {n}"
    exact = n * p % 100 == 0
    lines = [f"{head} = {n}×{p}÷100", *steps.mul_lines(n, p), f"{n * p}÷100" + (f"={n * p // 100}" if exact else "")]
    return item("pct" if exact else "inexact", question, lines, str(n * p // 100) if exact else None)


def sample_percent(rng: random.Random, exact: bool) -> tuple[int, int]:
    while True:
        p = rng.randrange(5, 100, 5) if rng.random() < 0.6 else rng.randint(1, 99)
        step = 100 // math.gcd(p, 100)
        n = step * rng.randint(1, 999 // step) if exact else number(rng, (1, 4, 5))
        if exact == (n * p % 100 == 0):
            return p, n


def draw_pct(draw: Draw) -> Item:
    return percent_item(draw, *until_split(draw, "pct", lambda: sample_percent(draw.rng, exact=True)))


def draw_pct_inexact(draw: Draw) -> Item:
    return percent_item(draw, *until_split(draw, "pct", lambda: sample_percent(draw.rng, exact=False)))
