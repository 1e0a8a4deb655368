"""Items and how a question gets its wording.

Operands are held out by hash (`HELD_SHARE` of all operand tuples), wordings by separate lists. Answers are Korean if
the question holds any Hangul, English otherwise.
"""

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tools.nano_tutor import noise
from tools.nano_tutor.grammar import choose, expand, unfold
from tools.nano_tutor.wordings import Wordings, wordings

T = TypeVar("T", bound=tuple[object, ...])

HELD_SHARE = 0.1
LANGUAGES = ("en", "ko")
NO_PREFIX_SHARE, NO_SUFFIX_SHARE = 0.14, 0.25
ASIDE_SHARE, STRANGE_NAME_SHARE, GAP_SHARE, LOOSE_SHARE, MISTYPE_SHARE = 0.3, 0.2, 0.12, 0.12, 0.04
ANSWER = {"en": "Answer: ", "ko": "답: "}
DECLINE = {
    "en": "Sorry, I can't do that one. Ask me about +, −, ×, ÷ with two whole numbers, ax + b = c, units, percent or "
    "school terms.",
    "ko": "미안해요, 그건 제가 할 수 없어요. 두 자연수의 +, −, ×, ÷, ax + b = c, 단위, 백분율, 수학 용어를 물어보세요.",
}
INEXACT = {
    "en": "This does not come out as a whole number, so I stop here.",
    "ko": "정수로 나누어떨어지지 않아서 여기서 멈출게요.",
}
GREETING = {
    "en": 'Hello! I am a small maths tutor. Try 347 + 85, 4x + 38 = 110, 3 km in m, 20% of 150 or "what is a sum?".',
    "ko": '안녕하세요! 저는 작은 수학 튜터예요. 347+85, 4x+38=110, 3 km는 몇 m, 150의 20%, "몫이 뭐야?"처럼 '
    "물어보세요.",
}
SIGNED_CHOICE = re.compile(r"\[([^\[\]]*;[^\[\]]*)\]")
HANGUL = re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣ]")


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its full answer; `final` is the expected final value, None where no value may be given."""

    kind: str
    language: str
    question: str
    answer: str
    final: str | None


@dataclass(frozen=True, slots=True)
class Draw:
    """What a sampler needs: randomness, the language, whether operands come from the held-out part, which wordings.

    `wording` is `seen`, `dev` (for watching a run) or `held`; `noisy` adds what only training needs.
    """

    rng: random.Random
    language: str
    held_operands: bool = False
    wording: str = "seen"
    noisy: bool = False


def answer_language(question: str) -> str:
    return "ko" if HANGUL.search(question) else "en"


def is_held(*key: object) -> bool:
    """True for the share of operand tuples that training never sees."""
    digest = hashlib.md5(repr(key).encode(), usedforsecurity=False).digest()
    return digest[0] < 256 * HELD_SHARE


def until_split(draw: Draw, kind: str, sample: Callable[[], T]) -> T:
    while True:
        values = sample()
        if is_held(kind, *values) == draw.held_operands:
            return values


def pick(draw: Draw, section: str, sign: str = "") -> str:
    """A line of the section, its choices made: never one that a held-out line of the section could make as well."""
    words = wordings(draw.language)
    while True:
        line = unfold(draw.rng.choice(words.lines(section, draw.wording)), words.macros)
        text = choose(by_sign(line, sign) if sign else line, draw.rng)
        if draw.wording == "held" or not words.makes_held(section, text):
            return text


def by_sign(template: str, sign: str) -> str:
    """Keeps those options of `[add;+|subtract;-]` that carry the sign."""

    def keep(match: re.Match[str]) -> str:
        options = [o.rsplit(";", 1) for o in match.group(1).split("|")]
        return "[" + "|".join(text for text, tag in options if tag == sign) + "]"

    return SIGNED_CHOICE.sub(keep, template)


def phrase(draw: Draw, template: str, slots: dict[str, str]) -> str:
    """Expands a core, wraps it in a prefix and a suffix and roughens it the way people type."""
    words, rng = wordings(draw.language), draw.rng
    template = template.lstrip("!")
    if draw.noisy and draw.language == "ko" and rng.random() < LOOSE_SHARE:
        template = noise.loose_particles(rng, template)
    if draw.language == "ko":
        thing, unit = rng.choice(words.pairs("things"))
        if draw.noisy and rng.random() < STRANGE_NAME_SHARE:
            thing = noise.word(rng, "ko", words)
        slots = {"o": thing, **slots}
        template = template.replace("{u}", unit)
    if rng.random() >= NO_PREFIX_SHARE:
        template = f"{around(draw, words, 'prefixes')} {template}"
    if rng.random() >= NO_SUFFIX_SHARE:
        template = f"{template} {around(draw, words, 'suffixes')}"
    template = with_names(draw, unfold(template, words.macros), words)
    text = roughen(expand(template, words.macros, slots, rng), rng)
    return (noisier(draw, text, words) if draw.noisy else text).strip()


def with_names(draw: Draw, template: str, words: Wordings) -> str:
    """People and things of a story, drawn once; some of them unheard of in training."""
    rng = draw.rng
    for names, options in words.shared.items():
        strange = draw.noisy and rng.random() < STRANGE_NAME_SHARE
        for name, pick in zip(names, rng.choice(options), strict=True):
            if f"<{name}>" in template:
                template = template.replace(f"<{name}>", noise.word(rng, draw.language, words) if strange else pick)
    return template


def around(draw: Draw, words: Wordings, section: str) -> str:
    if draw.noisy and draw.rng.random() < ASIDE_SHARE:
        return noise.aside(draw.rng, draw.language, words)
    return pick(draw, section)


def noisier(draw: Draw, text: str, words: Wordings) -> str:
    """Stray words, slips and capitals, for training only."""
    rng = draw.rng
    if rng.random() < GAP_SHARE:
        text = expand(noise.fill_gaps(rng, draw.language, text, words), words.macros, {}, rng)
    if draw.language == "ko" and rng.random() < MISTYPE_SHARE:
        text = noise.mistype(rng, text)
    if draw.language == "en" and rng.random() < 0.02:
        text = text.upper()
    return text


def roughen(text: str, rng: random.Random) -> str:
    """Typing variants: case, missing punctuation, spacing, line breaks, a slipped letter."""
    roll = rng.random()
    if roll < 0.10:
        text = text.lower()
    elif roll < 0.12:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.12:
        text = text.rstrip("?.! ")
    if rng.random() < 0.08:
        text = re.sub(r"(?<=[가-힣]) (?=[가-힣])", lambda _: "" if rng.random() < 0.6 else " ", text)
    if rng.random() < 0.04:
        text = re.sub(r"(?<=[.!?]) ", "\n", text, count=1)
    if rng.random() < 0.05:
        text = slip(text, rng)
    return text


def slip(text: str, rng: random.Random) -> str:
    """Drops, doubles or swaps a letter inside one longer Latin word."""
    words = list(re.finditer(r"[A-Za-z]{5,}", text))
    if not words:
        return text
    word = rng.choice(words)
    i = rng.randrange(word.start() + 1, word.end() - 2)
    change = rng.choice(("drop", "double", "swap"))
    if change == "drop":
        return text[:i] + text[i + 1 :]
    if change == "double":
        return text[:i] + text[i] + text[i:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def ask(draw: Draw, kind: str, slots: dict[str, str], story: bool = True) -> str:
    """A question of `kind`; stories only if the operands make sense in one. Korean ones always hold Hangul."""
    while True:
        template = pick(draw, f"core {kind}")
        if template.startswith("!") and not story:
            continue
        question = phrase(draw, template, slots)
        if draw.language == "en" or HANGUL.search(question):
            return question


def item(kind: str, question: str, lines: list[str], final: str | None) -> Item:
    language = answer_language(question)
    last = INEXACT[language] if final is None else ANSWER[language] + final
    return Item(kind, language, question, "\n".join([*lines, last]), final)
