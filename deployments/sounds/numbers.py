"""Numbers as they are read aloud."""

KOREAN_DIGITS = "영일이삼사오육칠팔구"
KOREAN_UNITS = ((1_0000_0000_0000, "조"), (1_0000_0000, "억"), (1_0000, "만"), (1, ""))
NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
NATIVE_ONES = ("", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉")
BEFORE_COUNTER = {"하나": "한", "둘": "두", "셋": "세", "넷": "네", "스물": "스무"}
COUNTERS = "시간 시 개 명 살 마리 병 잔 권 장 번째 사람 가지 송이 켤레 대 곡"
NATIVE_COUNTERS = tuple(COUNTERS.split())

BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
BY_TEN = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
ONES, TENS = BELOW_TWENTY.split(), BY_TEN.split()
SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
LARGEST = 10**15
"""From here on, digits are read one by one."""


def sino(number: int) -> str:
    """35 → 삼십오."""
    if number == 0:
        return KOREAN_DIGITS[0]
    said = ""
    for value, name in KOREAN_UNITS:
        part, number = divmod(number, value)
        if part:
            said += ("" if part == 1 and name == "만" else _below_ten_thousand(part)) + name
    return said


def _below_ten_thousand(number: int) -> str:
    said = ""
    for value, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit = number // value % 10
        if digit:
            said += ("" if digit == 1 and name else KOREAN_DIGITS[digit]) + name
    return said


def native(number: int) -> str:
    """3 → 세, before a counter; from 1 to 99."""
    tens, ones = NATIVE_TENS[number // 10], NATIVE_ONES[number % 10]
    return tens + BEFORE_COUNTER.get(ones, ones) if ones else BEFORE_COUNTER.get(tens, tens)


def korean_digits(digits: str) -> str:
    """010 → 공일공."""
    return "".join("공" if digit == "0" else KOREAN_DIGITS[int(digit)] for digit in digits)


def english(number: int) -> list[str]:
    if number < 20:
        return [ONES[number]]
    if number < 100:
        return [TENS[number // 10], *([ONES[number % 10]] if number % 10 else [])]
    for value, name in SCALES:
        if number >= value:
            rest = number % value
            return [*english(number // value), name, *(english(rest) if rest else [])]
    raise AssertionError


def ordinal(number: int) -> list[str]:
    *head, last = english(number)
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return [*head, ORDINALS.get(last, regular)]


def year(number: int) -> list[str]:
    """1987 → nineteen eighty seven; 2024 → twenty twenty four; 2005 → two thousand five."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 or rest == 0:
        return english(number)
    return [*english(century), *(["oh"] if rest < 10 else []), *english(rest)]
