"""Words that mean nothing to the tutor, for training only: whoever asks uses words that no list holds.

A reader that has met thousands of unknown words around the operands learns to look at what it does know.
"""

import random
import re

from tools.nano_tutor.grammar import PAIRS
from tools.nano_tutor.wordings import Wordings

ONSETS = ["", "b", "bl", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p"]
ONSETS += ["pl", "pr", "qu", "r", "s", "sh", "sk", "sl", "sm", "sp", "st", "str", "t", "th", "tr", "v", "w", "y", "z"]
VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ee", "ou", "oo", "ie"]
CODAS = ["", "", "b", "ck", "d", "g", "l", "ll", "m", "n", "nd", "ng", "nt", "p", "r", "rn", "s", "st", "t", "x"]
ENDINGS = ["", "", "", "s", "ed", "ing", "er", "ly", "y", "tion", "ment", "le", "es"]
JOSA = ["", "", "", "은/는", "이/가", "을/를", "에", "에서", "의", "하고", "으로/로", "도", "만", "과/와"]
VERB_ENDS = ["어", "아", "요", "어요", "다", "고", "는데", "지만", "면", "니까", "네", "군요", "자", "을게"]
PARTICLE_AFTER_SLOT = re.compile(rf"(\{{[abcenptxo]\}}(?:\{{u\}})?)({'|'.join(PAIRS[:4])})")
GAP = re.compile(r"(?<=[A-Za-z가-힣,.?!]) (?=[A-Za-z가-힣])")
FINALS = (0, 1, 4, 8, 16, 17, 21)
SYLLABLES = [chr(code) for code in range(ord("가"), ord("힣") + 1) if (code - 0xAC00) % 28 in FINALS]
PLAIN_SYLLABLES = list(
    "가나다라마바사아자차카타파하고노도로모보소오조코토포호"
    "구누두루무부수우주추쿠투푸후기니디리미비시이지치키티피히개내대래매배새애재채해"
)
ENDS = [".", ".", "!", ",", ":", "", "?", "...", " -"]


def english_word(rng: random.Random) -> str:
    count = rng.choices((1, 2, 3), (5, 6, 2))[0]
    body = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(count))
    return body + rng.choice(ENDINGS)


def korean_word(rng: random.Random) -> str:
    count = rng.choices((1, 2, 3, 4), (1, 6, 4, 2))[0]
    return "".join(rng.choice(PLAIN_SYLLABLES if rng.random() < 0.75 else SYLLABLES) for _ in range(count))


def word(rng: random.Random, language: str, words: Wordings) -> str:
    """An invented word or one of the list; the list leaves out all that could name an operation."""
    if rng.random() < 0.5:
        return rng.choice(words.lines("filler"))
    return english_word(rng) if language == "en" else korean_word(rng)


def with_ending(rng: random.Random, language: str, text: str) -> str:
    """A Korean word with a particle or the end of a verb."""
    if language == "en":
        return text
    return text + (rng.choice(JOSA) if rng.random() < 0.7 else rng.choice(VERB_ENDS))


def sentence(rng: random.Random, language: str, words: Wordings) -> str:
    """A sentence of words thrown together, now and then with a number in it."""
    count = rng.choices((1, 2, 3, 4, 5, 6, 8), (3, 5, 6, 6, 4, 3, 2))[0]
    parts = [with_ending(rng, language, word(rng, language, words)) for _ in range(count)]
    if rng.random() < 0.5:
        parts[0] = parts[0][:1].upper() + parts[0][1:]
    return " ".join(parts) + rng.choice(ENDS)


def aside(rng: random.Random, language: str, words: Wordings) -> str:
    """What people write before or after a question: a composed sentence or a nonsense one."""
    if rng.random() < 0.65:
        return rng.choice(words.lines("asides"))
    return sentence(rng, language, words)


def fill_gaps(rng: random.Random, language: str, text: str, words: Wordings) -> str:
    """Puts one or two stray words between words of the question."""
    for _ in range(rng.choice((1, 1, 2))):
        gaps = [m.start() for m in GAP.finditer(text)]
        if not gaps:
            return text
        at = rng.choice(gaps)
        text = f"{text[:at]} {with_ending(rng, language, word(rng, language, words))}{text[at:]}"
    return text


def loose_particles(rng: random.Random, template: str) -> str:
    """Korean as it is typed: particles behind a value left out, written both ways, or the wrong one."""
    roll = rng.random()

    def change(match: re.Match[str]) -> str:
        slot, pair = match.groups()
        first, second = pair.split("/")
        if roll < 0.55:
            return slot
        if roll < 0.75:
            return slot + (f"{first}({second})" if rng.random() < 0.6 else f"{second}({first})")
        return slot + rng.choice((first, second))

    return PARTICLE_AFTER_SLOT.sub(change, template)


def mistype(rng: random.Random, text: str) -> str:
    """One slip on a Korean keyboard: another vowel or final consonant, a syllable twice or missing, a stray space."""
    places = [m.start() for m in re.finditer(r"[가-힣]", text)]
    if len(places) < 6:
        return text
    i, roll = rng.choice(places), rng.random()
    if roll < 0.5:
        lead = (ord(text[i]) - 0xAC00) // 588
        syllable = chr(0xAC00 + lead * 588 + rng.randrange(21) * 28 + rng.choice((0, 0, 4, 8, 21)))
        return text[:i] + syllable + text[i + 1 :]
    if roll < 0.65:
        return text[:i] + text[i] + text[i:]
    if roll < 0.75:
        return text[:i] + text[i + 1 :]
    return f"{text[:i]} {text[i:]}"
