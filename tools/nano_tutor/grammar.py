"""Expands a wording template into text: `[a|b]` is a choice, `<name>` a macro, `{slot}` a value, `을/를` a particle."""

import random
import re

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SIGN = re.compile(r";[+-](?=[|\]])")
MACRO = re.compile(r"<(\w+)>")
PAIRS = [
    "을/를",
    "이/가",
    "은/는",
    "과/와",
    "으로/로",
    "이에요/예요",
    "이야/야",
    "이고/고",
    "이면/면",
    "이라고/라고",
    "이라면/라면",
    "이란/란",
    "이라/라",
    "이랑/랑",
    "이다/다",
    "아/야",
]
PARTICLE = re.compile(rf"(\S)({'|'.join(PAIRS)})")
SOUNDS_CLOSED = {
    "0": True,
    "1": True,
    "2": False,
    "3": True,
    "4": False,
    "5": False,
    "6": True,
    "7": True,
    "8": True,
    "9": False,
    "g": True,
    "n": True,
    "%": False,
}
LIQUID_DIGITS = "178"


def closed_syllable(char: str) -> bool:
    """True if `char` is read with a final consonant (Hangul syllable, digit or unit letter)."""
    if "가" <= char <= "힣":
        return (ord(char) - 0xAC00) % 28 != 0
    return SOUNDS_CLOSED.get(char, False)


def ends_in_l(char: str) -> bool:
    return char in LIQUID_DIGITS or ("가" <= char <= "힣" and (ord(char) - 0xAC00) % 28 == 8)


def choose_particle(match: re.Match[str]) -> str:
    char, pair = match.groups()
    closed, opened = pair.split("/")
    if pair == "으로/로" and ends_in_l(char):
        return char + opened
    return char + (closed if closed_syllable(char) else opened)


def unfold(template: str, macros: dict[str, str]) -> str:
    """Puts the macros in; names that are none of them stay."""
    text, before = template, ""
    while text != before:
        text, before = MACRO.sub(lambda m: macros.get(m.group(1), m.group(0)), text), text
    return text


def choose(text: str, rng: random.Random) -> str:
    """Makes all choices, the inner ones first."""
    while CHOICE.search(text):
        text = CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), text)
    return text


def plain(text: str) -> str:
    """Without capitals and punctuation marks, to compare wordings."""
    return re.sub(r"[?!.,~:;…]", "", text).lower()


def pattern(templates: list[str], macros: dict[str, str]) -> re.Pattern[str]:
    """Matches every `plain` text that one of the templates can make; slots stay slots, names match any word."""
    parts = []
    for template in templates:
        text = re.escape(plain(SIGN.sub("", unfold(template.lstrip("!"), macros))))
        text = text.replace(r"\[", "(?:").replace(r"\]", ")").replace(r"\|", "|")
        text = re.sub(r"<\w+>", r"\\S+", text)
        parts.append(re.sub(r"(?:\\ )+", r"\\s*", text))
    return re.compile(r"\s*(?:" + "|".join(parts) + r")\s*")


def expand(template: str, macros: dict[str, str], slots: dict[str, str], rng: random.Random) -> str:
    """Draws one text from a template."""
    text = choose(unfold(template, macros), rng)
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return PARTICLE.sub(choose_particle, text)
