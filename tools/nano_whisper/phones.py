"""How the synthesiser's names of sounds become ours."""

import re

from deployments.sounds.korean import pronounce, respell
from deployments.sounds.phones import PHONES, of_syllable

INDEX = {phone: index for index, phone in enumerate(PHONES)}

ESPEAK = {
    **{name: name for name in ["p", "b", "t", "d", "k", "g", "f", "v", "s", "z", "h", "m", "n", "l", "r", "w"]},
    "t#": "t", "t2": "t", "?": "t", "n-": "n", "r-": "r", "N": "ng", "tS": "ch", "dZ": "jh", "S": "sh", "Z": "zh",
    "T": "th", "D": "dh", "j": "y", "I": "ih", "I2": "ih", "I#": "ih", "eI": "ey", "E": "eh", "i:": "iy", "i": "iy",
    "@": "ax", "@2": "ax", "a#": "ax", "@-": "ax", "3": "er", "3:": "er", "V": "ah", "a": "ae", "aa": "ae",
    "aI": "ay", "oU": "ow", "u:": "uw", "0": "aa", "A:": "aa", "O:": "ao", "O2": "ao", "@L": "ax l", "A@": "aa r",
    "aU": "aw", "U": "uh", "o@": "ao r", "O@": "ao r", "e@": "eh r", "i@3": "ih r", "i@": "ih r", "aI@": "ay er",
    "aI3": "ay er", "OI": "oy", "U@": "uh r", "": "", ";": "", ":": "",
}  # fmt: skip
"""From eSpeak NG's names for American English to ours."""


def korean_phones(text: str) -> list[str]:
    return [phone for word in text.split() for syllable in pronounce(word) for phone in of_syllable(syllable)]


def english_phones(names: list[str]) -> list[str]:
    """From names of eSpeak NG. An r that only links is said once. Raises KeyError for a name not in `ESPEAK`."""
    phones = " ".join(ESPEAK[name.lstrip("',=%")] for name in names).split()
    return [phone for at, phone in enumerate(phones) if not (phone == "r" and at and phones[at - 1] == "r")]


def espeak_korean(text: str) -> str:
    """What to hand to the synthesiser: the text respelled as it sounds, its punctuation kept."""
    return re.sub(r"[가-힣]+", lambda word: respell(word[0]), text)
