"""Reference texts as words that can be spoken: numbers read out, symbols gone, each word in its language."""

import re
import unicodedata
from dataclasses import dataclass

from deployments.sounds import numbers
from deployments.sounds.hangul import is_syllable

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SAID = "에이 비 씨 디 이 에프 지 에이치 아이 제이 케이 엘 엠 엔 오 피 큐 알 에스 티 유 브이 더블유 엑스 와이 제트"
KOREAN_LETTERS = dict(zip(LATIN, SAID.split(), strict=True))
KOREAN_SYMBOLS = {
    "%": "퍼센트", "kg": "킬로그램", "km": "킬로미터", "cm": "센티미터", "mm": "밀리미터", "m": "미터", "g": "그램",
    "℃": "도", "°C": "도", "원": "원", "₩": "원", "$": "달러", "+": "더하기", "=": "는", "&": "앤",
}  # fmt: skip
ENGLISH_SYMBOLS = {"%": ["percent"], "&": ["and"], "+": ["plus"], "=": ["equals"], "@": ["at"]}
ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missis",
    "dr": "doctor",
    "st": "street",
    "vs": "versus",
    "etc": "et cetera",
    "ok": "okay",
}
JAMO_SAID = {"ㅋ": "크", "ㅎ": "흐", "ㅠ": "유", "ㅜ": "우"}
TOKEN = re.compile(
    r"[$₩]?\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th)?%?(?:-\d+)*(?:(?:kg|km|cm|mm|m|g)(?![A-Za-z]))?|[가-힣]+|[A-Za-z]+(?:['’][A-Za-z]+)*|[%&+=@]"
)


@dataclass(frozen=True, slots=True)
class Word:
    """`written` is as in the text, `said` the letters that are spoken: Hangul, or English words apart by spaces."""

    written: str
    said: str
    language: str


@dataclass(frozen=True, slots=True)
class Reading:
    words: tuple[Word, ...]
    ignored: bool
    """Whether something in the text could not be read aloud: emoji, other scripts."""


def read(text: str, language: str) -> Reading:
    """The words of a text that is to be read in `language`, `ko` or `en`; words in the other's letters keep theirs."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    words = [word for chunk in text.split() for word in _words(chunk, language)]
    return Reading(tuple(words), _has_unread(text))


def _words(chunk: str, language: str) -> list[Word]:
    """What stands between two spaces is one Korean word, with what is written together: 3시에, BTS의."""
    tokens = TOKEN.findall(chunk)
    if not tokens:
        return []
    written = chunk.strip(".,!?…~\"'()[]{}:;·“”‘’")
    korean = any(map(is_syllable, chunk)) or (language == "ko" and not _latin_words(tokens))
    if korean:
        return [
            Word(written, "".join(_korean(token, tokens[at + 1 : at + 2]) for at, token in enumerate(tokens)), "ko")
        ]
    said = [word for token in tokens for word in _english(token)]
    if "-" in chunk and len(tokens) > 1 and all(token.isalpha() for token in tokens):
        return [Word(token, " ".join(_english(token)), "en") for token in tokens]
    return [Word(written or chunk, " ".join(said), "en")] if said else []


def _latin_words(tokens: list[str]) -> bool:
    return any(re.search("[a-z]", token) and token not in KOREAN_SYMBOLS and not token[0].isdigit() for token in tokens)


def _korean(token: str, following: list[str]) -> str:
    if is_syllable(token[0]):
        return token
    if token[0].isalpha():
        return KOREAN_SYMBOLS.get(token) or "".join(KOREAN_LETTERS.get(letter.upper(), "") for letter in token)
    if token in KOREAN_SYMBOLS:
        return KOREAN_SYMBOLS[token]
    return _korean_number(token, following[0] if following else "")


def _korean_number(token: str, following: str) -> str:
    match = re.fullmatch(r"([$₩]?)([\d,]+(?:\.\d+)?)(st|nd|rd|th)?(%?)((?:-\d+)*)(kg|km|cm|mm|m|g)?", token)
    if match is None:
        return ""
    sign, number, _, percent, more, unit = match.groups()
    tail = KOREAN_SYMBOLS.get(sign or percent or unit or "", "")
    if more or (number.startswith("0") and len(number) > 1 and "." not in number):
        return numbers.korean_digits(re.sub(r"\D", "", token))
    whole, _, part = number.replace(",", "").partition(".")
    if len(whole) > 15:
        return numbers.korean_digits(whole) + tail
    value = int(whole or 0)
    if (
        not part
        and 0 < value < 100
        and following.startswith(numbers.NATIVE_COUNTERS)
        and not _minutes(following, value)
    ):
        return numbers.native(value)
    return numbers.sino(value) + ("점" + "".join(numbers.KOREAN_DIGITS[int(d)] for d in part) if part else "") + tail


def _minutes(following: str, value: int) -> bool:
    """Hours up to 12 are counted in native words, 24-hour ones and long spans are not."""
    return following.startswith("시") and not following.startswith("시간") and value > 12


def _english(token: str) -> list[str]:
    if token in ENGLISH_SYMBOLS:
        return ENGLISH_SYMBOLS[token]
    if token[0].isalpha():
        plain = token.lower()
        if len(token) > 1 and token.isupper() and not re.search("[AEIOUY]", token):
            return list(plain)  # BTS is spelt
        return [ABBREVIATIONS.get(plain, plain)]
    return _english_number(token)


def _english_number(token: str) -> list[str]:
    match = re.fullmatch(r"([$₩]?)([\d,]+)(?:\.(\d+))?(st|nd|rd|th)?(%?)((?:-\d+)*)(kg|km|cm|mm|m|g)?", token)
    if match is None:
        return []
    sign, whole, part, nth, percent, more, unit = match.groups()
    digits = whole.replace(",", "")
    if more or len(digits) > 15 or (digits.startswith("0") and len(digits) > 1):
        return [numbers.ONES[int(digit)] for digit in re.sub(r"\D", "", token)]
    value = int(digits)
    if nth:
        return numbers.ordinal(value)
    plain_year = not (sign or part or percent or unit or "," in whole) and 1100 <= value < 2100
    said = numbers.year(value) if plain_year else numbers.english(value)
    said += ["point", *(numbers.ONES[int(digit)] for digit in part)] if part else []
    units = {"$": "dollars", "₩": "won", "%": "percent", "kg": "kilograms", "km": "kilometers", "cm": "centimeters"}
    units |= {"mm": "millimeters", "m": "meters", "g": "grams"}
    return [*said, *([units[sign or percent or unit]] if sign or percent or unit else [])]


def _has_unread(text: str) -> bool:
    rest = TOKEN.sub(" ", text)
    return any(
        unicodedata.category(character)[0] in "LS" or unicodedata.category(character) == "Lo" for character in rest
    )
