"""Korean pronunciation: how a written word sounds, syllable by syllable.

After the rules of the Standard Pronunciation (표준 발음법): palatalisation (17), ㅎ (12), liaison (13, 14), neutral
codas (8-11), tensification (23-25, 27), nasalisation (18, 19), lateralisation (20) and vowels (5). What the rules
cannot know, because it depends on the word (ㄴ insertion, tense consonants in compounds), is in `LEXICAL`.
"""

from dataclasses import replace

from deployments.sounds.hangul import Syllable, is_syllable, split

PAIRS = {
    "ㄳ": ("ㄱ", "ㅅ"),
    "ㄵ": ("ㄴ", "ㅈ"),
    "ㄶ": ("ㄴ", "ㅎ"),
    "ㄺ": ("ㄹ", "ㄱ"),
    "ㄻ": ("ㄹ", "ㅁ"),
    "ㄼ": ("ㄹ", "ㅂ"),
    "ㄽ": ("ㄹ", "ㅅ"),
    "ㄾ": ("ㄹ", "ㅌ"),
    "ㄿ": ("ㄹ", "ㅍ"),
    "ㅀ": ("ㄹ", "ㅎ"),
    "ㅄ": ("ㅂ", "ㅅ"),
}
ASPIRATED = {"ㄱ": "ㅋ", "ㄷ": "ㅌ", "ㅂ": "ㅍ", "ㅈ": "ㅊ"}
TENSE = {"ㄱ": "ㄲ", "ㄷ": "ㄸ", "ㅂ": "ㅃ", "ㅅ": "ㅆ", "ㅈ": "ㅉ"}
NASAL = {"ㄱ": "ㅇ", "ㄷ": "ㄴ", "ㅂ": "ㅁ"}
NEUTRAL = {
    **dict.fromkeys("ㄲㅋㄳㄺ", "ㄱ"),
    **dict.fromkeys("ㅅㅆㅈㅊㅌㅎ", "ㄷ"),
    **dict.fromkeys("ㅍㅄㄿ", "ㅂ"),
    **dict.fromkeys("ㄵㄶ", "ㄴ"),
    **dict.fromkeys("ㄼㄽㄾㅀ", "ㄹ"),
    "ㄻ": "ㅁ",
}
ENDINGS = "다고지게던든소습자"
LEXICAL = {
    "꽃잎": "꼰닙",
    "나뭇잎": "나문닙",
    "깻잎": "깬닙",
    "밟": "밥",
    "넓죽": "넙쭉",
    "맛있": "마싰",
    "멋있": "머싰",
    "절대": "절때",
    "열정": "열쩡",
    "결정": "결쩡",
    "발전": "발쩐",
    "활동": "활똥",
    "갈등": "갈뜽",
    "실수": "실쑤",
    "결심": "결씸",
    "출석": "출썩",
    "글자": "글짜",
    "한자": "한짜",
    "손가락": "손까락",
    "발가락": "발까락",
    "인기": "인끼",
    "문법": "문뻡",
    "성격": "성껵",
    "사건": "사껀",
    "조건": "조껀",
    "여권": "여꿘",
    "비빔밥": "비빔빱",
    "김밥": "김빱",
    "볶음밥": "보끔빱",
    "눈빛": "눈삧",
    "술잔": "술짠",
    "지하철역": "지하철력",
    "서울역": "서울력",
    "한여름": "한녀름",
    "무슨일": "무슨닐",
    "의견란": "의견난",
    "십육": "심뉵",
    "육십육": "육씸뉵",
}
OPTIONAL_TENSE = ("게", "게요", "걸", "걸요", "수록", "지도", "지라도", "께", "까")


def pronounce(word: str) -> list[Syllable]:
    """The syllables of a word as they sound. Anything in it that is no Hangul syllable is left out."""
    syllables = [split(character) for character in _lexical(word) if is_syllable(character)]
    sounds: list[Syllable] = []
    for at, syllable in enumerate(syllables):
        rest = "".join(map(str, syllables[at + 1 :]))
        previous = sounds.pop() if sounds else None
        if previous is None:
            sounds.append(syllable)
            continue
        sounds += _meet(previous, syllable, str(syllable) + rest)
    if sounds:
        sounds[-1] = _ending(sounds[-1])
    return [_vowel(syllable, first=at == 0) for at, syllable in enumerate(sounds)]


def respell(word: str) -> str:
    """The word as it sounds, in Hangul: 국물 → 궁물."""
    return "".join(map(str, pronounce(word)))


def _lexical(word: str) -> str:
    for written, said in LEXICAL.items():
        word = word.replace(written, said)
    return word


def _ending(syllable: Syllable) -> Syllable:
    return replace(syllable, coda=NEUTRAL.get(syllable.coda, syllable.coda))


def _meet(left: Syllable, right: Syllable, following: str) -> tuple[Syllable, Syllable]:
    """What becomes of two neighbours; the coda of `right` is still as written."""
    if right.onset == "ㅇ":
        return _before_vowel(left, right)
    if right.onset == "ㅎ" and (met := _before_h(left, right)):
        return met
    if left.coda in ("ㅎ", "ㄶ", "ㅀ"):
        return _after_h(left, right)
    return _consonants(left, right, following)


def _before_vowel(left: Syllable, right: Syllable) -> tuple[Syllable, Syllable]:
    coda = left.coda
    if coda in ("", "ㅇ"):
        return left, right
    if coda in ("ㅎ", "ㄶ", "ㅀ"):  # 좋아 → 조아, 많아 → 마나, 싫어 → 시러
        kept = PAIRS[coda][0] if coda in PAIRS else "ㅇ"
        return replace(left, coda=""), replace(right, onset=kept)
    stays, moves = PAIRS.get(coda, ("", coda))
    if right.vowel in "ㅣㅕ" and moves in ("ㄷ", "ㅌ"):  # 같이 → 가치
        moves = "ㅈ" if moves == "ㄷ" else "ㅊ"
    if coda in ("ㄳ", "ㄽ", "ㅄ"):
        moves = "ㅆ"
    return replace(left, coda=stays), replace(right, onset=moves)


def _before_h(left: Syllable, right: Syllable) -> tuple[Syllable, Syllable] | None:
    """축하 → 추카, 못해 → 모태, 앉히다 → 안치다, 굳히다 → 구치다."""
    stays, last = PAIRS.get(left.coda, ("", left.coda))
    if left.coda == "ㅈ" or left.coda == "ㄵ":
        return replace(left, coda=stays), replace(right, onset="ㅊ")
    stop = NEUTRAL.get(last, last)
    if left.coda in ("ㄶ", "ㅀ", "ㄻ") or stop not in ASPIRATED:
        return None
    aspirated = "ㅊ" if left.coda == "ㄷ" and right.vowel in "ㅣㅕ" else ASPIRATED[stop]
    if left.coda in ("ㄳ", "ㅄ", "ㄿ"):
        stays = ""
    return replace(left, coda=stays), replace(right, onset=aspirated)


def _after_h(left: Syllable, right: Syllable) -> tuple[Syllable, Syllable]:
    """좋고 → 조코, 많다 → 만타, 싫소 → 실쏘, 놓는 → 논는, 뚫는 → 뚤른."""
    kept = PAIRS[left.coda][0] if left.coda in PAIRS else ""
    if right.onset in ASPIRATED and right.onset != "ㅂ":
        return replace(left, coda=kept), replace(right, onset=ASPIRATED[right.onset])
    if right.onset == "ㅅ":
        return replace(left, coda=kept), replace(right, onset="ㅆ")
    if right.onset == "ㄴ" and not kept:
        kept = "ㄴ"
    if right.onset == "ㄴ" and kept == "ㄹ":
        return replace(left, coda="ㄹ"), replace(right, onset="ㄹ")
    return replace(left, coda=kept or "ㄷ" if right.onset not in "ㄴㅎ" else kept), right


def _consonants(left: Syllable, right: Syllable, following: str) -> tuple[Syllable, Syllable]:
    written, onset = left.coda, right.onset
    coda = NEUTRAL.get(written, written)
    if written == "ㄺ" and onset == "ㄱ":  # 읽고 → 일꼬
        return replace(left, coda="ㄹ"), replace(right, onset="ㄲ")
    if (
        (coda in NASAL and onset in TENSE)
        or (written in ("ㄵ", "ㄻ", "ㄼ", "ㄾ") and onset in TENSE and following[0] in ENDINGS)
        or (written == "ㄹ" and onset in TENSE and following in OPTIONAL_TENSE)
    ):
        onset = TENSE[onset]
    if coda in NASAL and onset in "ㄴㅁ":
        coda = NASAL[coda]
    elif coda in ("ㄱ", "ㅂ", "ㅁ", "ㅇ", "ㄷ") and onset == "ㄹ":  # 독립 → 동닙, 음료 → 음뇨
        coda, onset = NASAL.get(coda, coda), "ㄴ"
    elif (coda, onset) in (("ㄴ", "ㄹ"), ("ㄹ", "ㄴ")):
        coda, onset = "ㄹ", "ㄹ"
    return replace(left, coda=coda), replace(right, onset=onset)


def _vowel(syllable: Syllable, *, first: bool) -> Syllable:
    """져 → 저, 희 → 히, 시계 → 시게; ㅢ inside a word → ㅣ."""
    vowel = syllable.vowel
    if syllable.onset in "ㅈㅉㅊ":
        vowel = {"ㅑ": "ㅏ", "ㅕ": "ㅓ", "ㅖ": "ㅔ", "ㅛ": "ㅗ", "ㅠ": "ㅜ"}.get(vowel, vowel)
    if vowel == "ㅢ" and (syllable.onset != "ㅇ" or not first):
        vowel = "ㅣ"
    if vowel == "ㅖ" and syllable.onset not in "ㅇㄹ":
        vowel = "ㅔ"
    return replace(syllable, vowel=vowel)
