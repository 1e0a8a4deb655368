"""Draws sentences. A sentence belongs to training or to the held-out set by its hash, so the two never meet."""

import random
import re
import zlib
from functools import cache
from types import ModuleType

from tools.nano_whisper import english, korean, numbers

MODULES: dict[str, ModuleType] = {"ko": korean, "en": english}
HELD_OUT = 10
"""One sentence in ten."""


def held_out(sentence: str) -> bool:
    """A fixed line by itself, a greeting say, is always trained; two of them together may be held out."""
    return sentence not in _lines() and zlib.crc32(sentence.encode()) % HELD_OUT == 0


@cache
def _lines() -> frozenset[str]:
    return frozenset(line for language in MODULES for slot in LINES for line in _choices(language, slot))


def draw(rng: random.Random, language: str) -> str:
    """A sentence with its punctuation, from training and held-out ones alike."""
    weights, templates = zip(*MODULES[language].TEMPLATES, strict=True)
    sentence = re.sub(r"\{(\w+)\}", lambda slot: fill(rng, language, slot[1]), rng.choices(templates, weights)[0])
    sentence = re.sub(r"([.?])\.$", r"\1", sentence)
    return sentence[0].upper() + sentence[1:]


def fill(rng: random.Random, language: str, slot: str) -> str:
    if slot in SAID[language]:
        return SAID[language][slot](rng)
    choice = rng.choice(_choices(language, slot))
    return re.sub(r"\{([lpn])\}", lambda inner: fill(rng, language, INNER[inner[1]][language]), choice)


INNER = {"l": {"ko": "LONELY", "en": "LOVE"}, "p": {"ko": "PERSON"}, "n": {"en": "NAME"}}
LINES = {"FIXED", "SONG", "DRAMA"}


@cache
def _choices(language: str, slot: str) -> list[str]:
    text: str = getattr(MODULES[language], slot)
    if slot in LINES:
        return [" ".join(line.split()) for line in re.findall(r"[^.?]+[.?]", text)]
    if "|" in text:
        return text.replace("\n", "").split("|")
    return text.split()


def _any(language: str, rng: random.Random) -> str:
    """Words in no order at all, so that the decoder listens rather than guesses."""
    return " ".join(rng.choices(vocabulary(language), k=rng.randint(2, 6)))


@cache
def vocabulary(language: str) -> list[str]:
    """Every word that the templates hold, without punctuation, but for numbers, which are put together."""
    module, words = MODULES[language], set[str]()
    texts = [getattr(module, name) for name in vars(module) if name.isupper() and name != "TEMPLATES"]
    texts += [template for _, template in module.TEMPLATES]
    for text in texts:
        plain = re.sub(r"\{\w+\}\w*", " ", text).replace("|", " ")
        words.update(word for word in re.sub(r"[.?]", " ", plain).split())
    if language == "en":
        words = {word if word in PROPER or word == "I" else word.lower() for word in words}
        words.update(numbers.ONES, numbers.TENS[2:], {"hundred"})
    else:
        words.update(numbers.DIGITS, numbers.HOURS, ["십", "백", "천", "만"])
    return sorted(words)


NAMES = (
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January April August December Korean English Seoul London"
)
PROPER = set(NAMES.split()) | set(english.NAME.replace("\n", "").split("|"))


def _digits(rng: random.Random, names: list[str]) -> str:
    return " ".join(rng.choices(names, k=rng.randint(3, 5)))


SAID = {
    "ko": {
        "MONTH": lambda rng: rng.choice(["일", "이", "삼", "사", "오", "유", "칠", "팔", "구", "시", "십일", "십이"]),
        "DAY": lambda rng: numbers.sino(rng.randint(1, 31)),
        "HOUR": lambda rng: rng.choice(numbers.HOURS),
        "MINUTE": lambda rng: numbers.sino(rng.choice(range(5, 60, 5))),
        "PRICE": lambda rng: numbers.sino(
            rng.choice((500, 1000, 1500, 2000, 5000, 8500, 10000, 12000, 25000, 37000, 40000))
        ),
        "NUMBER": lambda rng: numbers.sino(rng.randint(1, 999)),
        "DIGITS": lambda rng: _digits(rng, numbers.DIGITS),
        "ANY": lambda rng: _any("ko", rng),
    },
    "en": {
        "HOUR": lambda rng: numbers.ONES[rng.randint(1, 12)],
        "MINUTE": lambda rng: numbers.english(rng.choice(range(10, 60, 5))),
        "NUMBER": lambda rng: numbers.english(rng.randint(1, 999)),
        "DIGITS": lambda rng: _digits(rng, numbers.ONES[:10]),
        "ANY": lambda rng: _any("en", rng),
    },
}
