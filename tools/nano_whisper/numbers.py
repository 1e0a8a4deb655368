"""Numbers in words, as the sentences of this recipe say them."""

SINO = ["", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구"]
DIGITS = ["공", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구"]
HOURS = ["한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열", "열한", "열두"]
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def sino(number: int) -> str:
    """1 to 99,999,999 in one piece: 이십삼, 오천오백, 만 이천."""
    if number >= 10_000:
        high = sino(number // 10_000) if number >= 20_000 else ""
        return f"{high}만" + (f" {sino(number % 10_000)}" if number % 10_000 else "")
    said = ""
    for value, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit = number // value % 10
        if digit:
            said += ("" if digit == 1 and value > 1 else SINO[digit]) + name
    return said


def english(number: int) -> str:
    """0 to 999."""
    if number >= 100:
        rest = number % 100
        return f"{ONES[number // 100]} hundred" + (f" {english(rest)}" if rest else "")
    if number < 20:
        return ONES[number]
    return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")
