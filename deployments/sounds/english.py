"""English pronunciation: a small lexicon, and spelling rules for words that are not in it."""

import re
from functools import cache
from importlib.resources import files

RULES = (
    ("tion", "sh ax n"), ("sion", "zh ax n"), ("ssion", "sh ax n"), ("ture", "ch er"), ("ough", "ao"), ("augh", "ao"),
    ("eigh", "ey"), ("igh", "ay"), ("tch", "ch"), ("dge", "jh"), ("sch", "s k"), ("kn", "n"), ("wr", "r"), ("wh", "w"),
    ("ph", "f"), ("gh", "g"), ("ck", "k"), ("ch", "ch"), ("sh", "sh"), ("th", "th"), ("ng", "ng"), ("qu", "k w"),
    ("ee", "iy"), ("ea", "iy"), ("oo", "uw"), ("ou", "aw"), ("ow", "ow"), ("oi", "oy"), ("oy", "oy"), ("ai", "ey"),
    ("ay", "ey"), ("au", "ao"), ("aw", "ao"), ("oa", "ow"), ("ew", "uw"), ("ey", "iy"), ("ie", "iy"), ("ui", "uw"),
    ("air", "eh r"), ("ear", "ih r"), ("eer", "ih r"), ("our", "ao r"), ("oor", "ao r"), ("ar", "aa r"), ("or", "ao r"),
    ("er", "er"), ("ir", "er"), ("ur", "er"), ("all", "ao l"), ("x", "k s"),
    ("bb", "b"), ("dd", "d"), ("ff", "f"), ("gg", "g"), ("ll", "l"), ("mm", "m"), ("nn", "n"), ("pp", "p"), ("rr", "r"),
    ("ss", "s"), ("tt", "t"), ("zz", "z"), ("cc", "k"),
    ("b", "b"), ("d", "d"), ("f", "f"), ("h", "h"), ("j", "jh"), ("k", "k"), ("l", "l"), ("m", "m"), ("n", "n"),
    ("p", "p"), ("q", "k"), ("r", "r"), ("s", "s"), ("t", "t"), ("v", "v"), ("w", "w"), ("z", "z"),
)  # fmt: skip
SHORT = {"a": "ae", "e": "eh", "i": "ih", "o": "aa", "u": "ah", "y": "ih"}
LONG = {"a": "ey", "e": "iy", "i": "ay", "o": "ow", "u": "uw", "y": "ay"}
LETTERS = {
    "a": "ey", "b": "b iy", "c": "s iy", "d": "d iy", "e": "iy", "f": "eh f", "g": "jh iy", "h": "ey ch", "i": "ay",
    "j": "jh ey", "k": "k ey", "l": "eh l", "m": "eh m", "n": "eh n", "o": "ow", "p": "p iy", "q": "k y uw",
    "r": "aa r", "s": "eh s", "t": "t iy", "u": "y uw", "v": "v iy", "w": "d ah b ax l y uw", "x": "eh k s",
    "y": "w ay",
    "z": "z iy",
}  # fmt: skip
BY_LENGTH = sorted(RULES, key=lambda rule: -len(rule[0]))


@cache
def lexicon() -> dict[str, list[list[str]]]:
    """Words with their pronunciations, the most usual first; lines of `word<TAB>phones|phones`."""
    lines = files("deployments.sounds").joinpath("english.tsv").read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    return {word: [variant.split() for variant in variants.split("|")] for word, variants in pairs}


def pronounce(word: str) -> list[list[str]]:
    """The ways to say a word, at least one. Raises nothing: what has no letters has no sounds."""
    word = word.lower()
    if word in lexicon():
        return lexicon()[word]
    if len(word) == 1 and word in LETTERS:
        return [LETTERS[word].split()]
    return [_inflected(word) or spell(word)]


def _inflected(word: str) -> list[str] | None:
    """A known word with an ending: its own sounds and those of -s, -ed, -ing, -ly, 's."""
    for ending in ("'s", "s", "es", "ed", "d", "ing", "ly"):
        stem = word.removesuffix(ending)
        for base in (stem, stem + "e"):
            if stem != word and base in lexicon():
                phones = lexicon()[base][0]
                return phones + _ending(ending, phones[-1])
    return None


def _ending(ending: str, last: str) -> list[str]:
    if ending in ("'s", "s", "es"):
        if last in ("s", "z", "sh", "zh", "ch", "jh"):
            return ["ih", "z"]
        return ["s"] if last in ("p", "t", "k", "f", "th") else ["z"]
    if ending in ("ed", "d"):
        if last in ("t", "d"):
            return ["ih", "d"]
        return ["t"] if last in ("p", "k", "f", "th", "s", "sh", "ch") else ["d"]
    return ["ih", "ng"] if ending == "ing" else ["l", "iy"]


def spell(word: str) -> list[str]:
    """By rules of spelling; right for regular words, near enough to align others."""
    letters = re.sub("[^a-z]", "", word)
    phones: list[str] = []
    at = 0
    while at < len(letters):
        at += _rule(letters, at, phones)
    return phones


def _rule(letters: str, at: int, phones: list[str]) -> int:
    """Append the sounds of what begins at `at`; return how many letters that took."""
    rest = letters[at:]
    for written, said in BY_LENGTH:
        if rest.startswith(written) and not (written == "gh" and at > 0):
            phones += said.split()
            return len(written)
    letter = letters[at]
    following = letters[at + 1 : at + 2]
    if letter in "cg":
        soft = following in ("e", "i", "y")
        phones.append(("s" if soft else "k") if letter == "c" else ("jh" if soft else "g"))
    elif letter == "y" and at == 0:
        phones.append("y")
    elif letter == "y" and at == len(letters) - 1:
        phones.append("iy")
    elif letter == "e" and at == len(letters) - 1 and phones:
        pass  # silent
    elif letter in SHORT:
        phones.append(LONG[letter] if _is_long(letters, at) else SHORT[letter])
    return 1


def _is_long(letters: str, at: int) -> bool:
    """Before one consonant and a final e, or at the end of a short word."""
    return bool(re.fullmatch("[bcdfgklmnprstvz]e", letters[at + 1 :])) or (at == len(letters) - 1 and len(letters) < 4)
