"""From writing to sounds."""

import pytest

from deployments.sounds import english
from deployments.sounds.korean import respell
from deployments.sounds.phones import KOREAN, PHONES, distance
from deployments.sounds.reference import reference
from deployments.sounds.text import read

RULES = """국물 궁물, 같이 가치, 굳이 구지, 좋아요 조아요, 많아요 마나요, 많다 만타, 싫어 시러, 좋고 조코, 읽고 일꼬,
읽다 익따, 읽어 일거, 닭이 달기, 없어요 업써요, 앉아 안자, 앉고 안꼬, 넓다 널따, 밟다 밥따, 값이 갑씨,
신라 실라, 독립 동닙, 음료 음뇨, 축하 추카, 못해 모태, 꽃잎 꼰닙, 있어요 이써요, 학교에서 학꾜에서,
입학 이팍, 맛있어요 마시써요, 옷 옫, 부엌 부억, 앞 압, 할게 할께, 시계 시게, 희망 히망, 가져 가저,
먹는 멍는, 밥만 밤만, 닫는 단는, 놓는 논는, 싫소 실쏘, 닫히다 다치다, 붙여 부처, 핥다 할따, 젊다 점따,
몫이 목씨, 뚫는 뚤른, 잃어버렸어요 이러버려써요, 대통령 대통녕, 깨끗해요 깨끄태요, 어떻게 어떠케,
꽃을 꼬츨, 무릎을 무르플, 떡볶이를 떡뽀끼를"""


@pytest.mark.parametrize("pair", RULES.replace("\n", " ").split(","))
def test_korean_sounds_as_the_standard_has_it(pair: str) -> None:
    written, sounds = pair.split()
    assert respell(written) == sounds


@pytest.mark.parametrize("pair", RULES.replace("\n", " ").split(","))
def test_what_sounds_as_it_is_written_stays(pair: str) -> None:
    """Sounds are a fixed point, but for a few codas that meet a new neighbour."""
    sounds = pair.split()[1]
    assert len(respell(sounds)) == len(sounds)


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("3시 20분에", "ko", "세시 이십분에"),
        ("사과 5개를 12,000원에!", "ko", "사과 다섯개를 만이천원에"),
        ("BTS의 3.5%", "ko", "비티에스의 삼점오퍼센트"),
        ("010-1234-5678", "ko", "공일공일이삼사오육칠팔"),
        ("20살, 2024년", "ko", "스무살 이천이십사년"),
        ("15시 2km", "ko", "십오시 이킬로미터"),
        ("$5.50 on the 3rd", "en", "five point five zero dollars on the third"),
        ("1987 & 20%", "en", "nineteen eighty seven and twenty percent"),
        ("well-known", "en", "well known"),
        ("It's 1,234.", "en", "it's one thousand two hundred thirty four"),
        ("오늘 hello 라고", "ko", "오늘 hello 라고"),
        ("  여러\n줄 , 과 — 빈칸 ", "ko", "여러 줄 과 빈칸"),
    ],
)
def test_texts_are_read_out(text: str, language: str, said: str) -> None:
    assert " ".join(word.said for word in read(text, language).words) == said


def test_what_cannot_be_read_is_noticed() -> None:
    assert read("안녕 🎉", "ko").ignored
    assert read("日本語", "ko").words == ()
    assert read("", "ko") == read("   ", "ko")
    assert not read("안녕, 세상!", "ko").ignored


def test_every_word_has_sounds_that_the_head_knows() -> None:
    for text, language in (("학교 BTS hello 3시 ㅋㅋ", "ko"), ("Rhythm and xylophones, qwerty; 42nd", "en")):
        words, _ = reference(text, language)
        assert words
        assert all(unit.phone in PHONES for word in words for way in word.ways for unit in way.units)


@pytest.mark.parametrize(
    ("word", "sounds"),
    [
        ("hello", "h ax l ow"),
        ("dances", "d ae n s ih z"),
        ("walked", "w ao k t"),
        ("blick", "b l ih k"),
        ("shade", "sh ey d"),
    ],
)
def test_english(word: str, sounds: str) -> None:
    assert sounds.split() in english.pronounce(word)


def test_distances_are_those_of_an_ear() -> None:
    for a in KOREAN:
        assert distance(a, a) == 0
        for b in KOREAN:
            assert distance(a, b) == distance(b, a)
            assert 0 <= distance(a, b) <= 1
    assert distance("ㄱ-", "ㅋ-") < distance("ㄱ-", "ㅁ-")
    assert distance("ㅔ", "ㅐ") == 0
    assert distance("ㅗ", "ㅜ") < distance("ㅗ", "ㅏ") < distance("ㅗ", "ㄱ-") == 1
