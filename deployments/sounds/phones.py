"""The sounds that a phone head names, and how far apart two of them are.

Korean ones are jamo as pronounced: `ㄱ-` begins a syllable, `-ㄱ` ends one, a vowel stands alone. English ones are
ARPAbet in small letters, with a schwa `ax`.
"""

from functools import cache

from deployments.sounds.hangul import ONSETS, VOWELS, Syllable

CODAS = "ㄱㄴㄷㄹㅁㅂㅇ"
KOREAN = (*(f"{onset}-" for onset in ONSETS if onset != "ㅇ"), *VOWELS, *(f"-{coda}" for coda in CODAS))
NAMES = "p b t d k g ch jh f v th dh s z sh zh h m n ng l r w y iy ih ey eh ae aa ao ow uh uw ah ax er ay aw oy"
ENGLISH = tuple(NAMES.split())
BLANK = "_"
PHONES = (BLANK, *KOREAN, *ENGLISH)

SAME = (("ㅐ", "ㅔ"), ("ㅙ", "ㅞ"), ("ㅙ", "ㅚ"), ("ㅚ", "ㅞ"), ("ㅒ", "ㅖ"), ("ah", "ax"))
"""Pairs that speakers of the standard no longer keep apart, or that stress alone does."""

PLACE = {
    **dict.fromkeys(["ㅂ-", "ㅃ-", "ㅍ-", "ㅁ-", "-ㅂ", "-ㅁ", "p", "b", "m", "w"], 0.0),
    **dict.fromkeys(["f", "v"], 0.15),
    **dict.fromkeys(["th", "dh"], 0.35),
    **dict.fromkeys(
        ["ㄷ-", "ㄸ-", "ㅌ-", "ㅅ-", "ㅆ-", "ㄴ-", "ㄹ-", "-ㄷ", "-ㄴ", "-ㄹ", "t", "d", "s", "z", "n", "l"], 0.45
    ),
    **dict.fromkeys(["ㅈ-", "ㅉ-", "ㅊ-", "ch", "jh", "sh", "zh", "r", "y"], 0.6),
    **dict.fromkeys(["ㄱ-", "ㄲ-", "ㅋ-", "-ㄱ", "-ㅇ", "k", "g", "ng"], 0.85),
    **dict.fromkeys(["ㅎ-", "h"], 1.0),
}
MANNER = {
    "stop": "ㄱ- ㄲ- ㅋ- ㄷ- ㄸ- ㅌ- ㅂ- ㅃ- ㅍ- -ㄱ -ㄷ -ㅂ p b t d k g",
    "affricate": "ㅈ- ㅉ- ㅊ- ch jh",
    "fricative": "ㅅ- ㅆ- ㅎ- f v th dh s z sh zh h",
    "nasal": "ㄴ- ㅁ- -ㄴ -ㅁ -ㅇ m n ng",
    "liquid": "ㄹ- -ㄹ l r",
    "glide": "w y",
}
MANNER_OF = {phone: manner for manner, phones in MANNER.items() for phone in phones.split()}
VOICE = {
    "tense": "ㄲ- ㄸ- ㅃ- ㅆ- ㅉ-",
    "aspirated": "ㅋ- ㅌ- ㅍ- ㅊ- ㅎ- p t k ch f th s sh h",
}
VOICE_OF = {phone: voice for voice, phones in VOICE.items() for phone in phones.split()}
NEAR_MANNERS = {frozenset(("stop", "affricate")), frozenset(("fricative", "affricate")), frozenset(("liquid", "nasal"))}

# height (0 close … 1 open), backness (0 front … 1 back), rounding, glide before, glide behind
VOWEL = {
    "ㅏ": (1, 0.6, 0, "", ""), "ㅐ": (0.6, 0, 0, "", ""), "ㅑ": (1, 0.6, 0, "y", ""), "ㅒ": (0.6, 0, 0, "y", ""),
    "ㅓ": (0.6, 0.8, 0, "", ""), "ㅔ": (0.6, 0, 0, "", ""), "ㅕ": (0.6, 0.8, 0, "y", ""), "ㅖ": (0.6, 0, 0, "y", ""),
    "ㅗ": (0.4, 1, 1, "", ""), "ㅘ": (1, 0.6, 0, "w", ""), "ㅙ": (0.6, 0, 0, "w", ""), "ㅚ": (0.6, 0, 0, "w", ""),
    "ㅛ": (0.4, 1, 1, "y", ""), "ㅜ": (0, 1, 1, "", ""), "ㅝ": (0.6, 0.8, 0, "w", ""), "ㅞ": (0.6, 0, 0, "w", ""),
    "ㅟ": (0, 0, 0, "w", ""), "ㅠ": (0, 1, 1, "y", ""), "ㅡ": (0, 0.7, 0, "", ""), "ㅢ": (0, 0.5, 0, "", "y"),
    "ㅣ": (0, 0, 0, "", ""),
    "iy": (0, 0, 0, "", ""), "ih": (0.15, 0.15, 0, "", ""), "ey": (0.4, 0, 0, "", "y"), "eh": (0.6, 0, 0, "", ""),
    "ae": (0.85, 0.1, 0, "", ""), "aa": (1, 0.8, 0, "", ""), "ao": (0.75, 1, 0.7, "", ""), "ow": (0.4, 1, 1, "", "w"),
    "uh": (0.15, 0.85, 0.7, "", ""), "uw": (0, 1, 1, "", ""), "ah": (0.7, 0.6, 0, "", ""), "ax": (0.5, 0.5, 0, "", ""),
    "er": (0.5, 0.5, 0.3, "", "r"), "ay": (1, 0.6, 0, "", "y"), "aw": (1, 0.6, 0, "", "w"), "oy": (0.5, 1, 1, "", "y"),
}  # fmt: skip


def is_vowel(phone: str) -> bool:
    return phone in VOWEL


def of_syllable(syllable: Syllable) -> list[str]:
    """The phones of a syllable that is spelt as it sounds."""
    phones = [f"{syllable.onset}-"] if syllable.onset != "ㅇ" else []
    return [*phones, syllable.vowel, *([f"-{syllable.coda}"] if syllable.coda else [])]


@cache
def distance(a: str, b: str) -> float:
    """0 for the same sound to 1 for a vowel against a consonant; a weighted sum of features in between.

    The end of a syllable and the beginning of the next are the same sound: between words, readers move it freely.
    """
    if a.strip("-") == b.strip("-") or (a, b) in SAME or (b, a) in SAME:
        return 0.0
    if is_vowel(a) != is_vowel(b):
        return 1.0
    return _between_vowels(a, b) if is_vowel(a) else _between_consonants(a, b)


def _between_vowels(a: str, b: str) -> float:
    x, y = VOWEL[a], VOWEL[b]
    shape = 0.45 * abs(x[0] - y[0]) + 0.35 * abs(x[1] - y[1]) + 0.2 * abs(x[2] - y[2])
    glides = 0.3 * (x[3] != y[3]) + 0.3 * (x[4] != y[4])
    return min(0.9, 0.2 + 0.7 * shape + glides)


def _between_consonants(a: str, b: str) -> float:
    manners = {MANNER_OF[a], MANNER_OF[b]}
    manner = 0.0 if len(manners) == 1 else 0.2 if frozenset(manners) in NEAR_MANNERS else 0.4
    voice = 0.2 * (VOICE_OF.get(a) != VOICE_OF.get(b))
    return min(0.9, 0.15 + 0.4 * abs(PLACE[a] - PLACE[b]) + manner + voice)
