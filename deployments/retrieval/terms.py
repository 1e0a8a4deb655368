"""What a text is looked up by: words of alphabetic scripts without their commonest endings, and pairs of syllables.

Korean words carry particles and endings (학교, 학교에서, 학교까지), so the word as written is a poor key. What is left
when a particle has been taken off is cut into pairs of syllables (예약했나요 -> 예약, 약했) and triples of letters, of
which the ones that carry the meaning are shared by every form. Chinese and Japanese, which have no spaces, are cut into
pairs as well. The variants that were tried instead are compared in docs/retrieval.md.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
RUN = re.compile(rf"([가-힣]+)|([{IDEOGRAPHS}]+)|((?:(?![가-힣{IDEOGRAPHS}])[^\W_])+)")
HANGUL = re.compile(r"[가-힣\u1100-\u11ff\u3130-\u318f]")

_ENDINGS = """
은 는 이 가 을 를 의 에 도 로 와 과 만 께 야 요 죠 까지 부터 에서 에게 으로 처럼 보다 마다 하고 이나 이란 라고
이라고 에는 에도 에서는 에서도 으로는 로는 까지는 부터는 만큼 밖에 조차 이며 이고 이다 입니다 입니까 인가요 인가
이에요 예요 이지 나요 까요 가요 어요 아요 해요 했나요 하나요 되나요 있나요 습니다 습니까 합니다 합니까 됩니다
됩니까 하면 하려면 으려면 려면 하는 하기 하여 해서 했을 되는 되어 되면 지만 으면 는데 거나 도록 면서 이라면 인지
는지 한가요 할까요 인데 한데
"""
_ASKING = """
무엇 무엇인 무슨 뭐 뭐라 뭔 어떻 어떻게 어떤 어디 어느 언제 누구 누가 누 왜 얼마 얼마나 며칠 몇 것 수 때 등 및
또는 그리고 하 되 있 없 위해 대해 대한 있는 있습 하나 해야 합니 됩니 알려 주세 주세요 경우 이유 까닭 방법 무엇입
"""
_STOP = """
a an and are as at be been but by can could did do does for from had has have how i if in into is it its may me
might must my no nor not of on or our shall should so some such than that the their them then there these they
this those to was we were what when where which who whom whose why will with would you your
"""
ENDINGS = sorted(_ENDINGS.split(), key=len, reverse=True)
ASKING = frozenset(_ASKING.split())
"""What Korean questions are made of, whatever they are about."""
STOP = frozenset(_STOP.split())
LETTERS = 3
LONGEST_WORD = 64  # characters: longer runs are data, and their beginning will do


def terms(text: str) -> Counter[str]:
    """The terms of a text, with how often each occurs."""
    return Counter(_terms(unicodedata.normalize("NFKC", text).casefold()))


def key(term: str) -> int:
    """A term as the store keeps it: 63 bits, so that what was deleted cannot be read from what is left."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def share_of_latin(text: str) -> float:
    """How much of a text is written in Latin letters, from 0 to 1, a Korean syllable counted as two letters."""
    latin = sum(1 for char in text if char.isascii() and char.isalpha())
    others = sum(1 for char in text if char.isalpha() and ord(char) > 0x24F)
    return latin / ((latin + 2 * others) or 1)


def is_korean(text: str) -> bool:
    return bool(HANGUL.search(text))


def _terms(text: str) -> Iterator[str]:
    for hangul, ideographs, word in RUN.findall(text):
        if hangul:
            yield from _syllables(hangul)
        elif ideographs:
            yield from _pairs(ideographs)
        elif word not in STOP:
            yield _stem(word[:LONGEST_WORD])


def _syllables(word: str) -> Iterator[str]:
    """Pairs of syllables, and triples of letters, which find a stem whose last syllable has changed (바꾸, 바꿔)."""
    bare = _bare(word)
    if bare not in ASKING:
        yield from (pair for pair in _pairs(bare) if pair not in ASKING)
        letters = unicodedata.normalize("NFD", bare)
        yield from (letters[at : at + LETTERS] for at in range(max(1, len(letters) - LETTERS + 1)))


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for at in range(len(run) - 1):
        yield run[at : at + 2]


def _bare(word: str) -> str:
    """The word without its longest particle or ending, as long as something is left."""
    for ending in ENDINGS:
        if len(word) > len(ending) and word.endswith(ending):
            return word[: -len(ending)]
    return word


def _stem(word: str) -> str:
    """The first steps of Porter's stemmer (1980): plurals, -ed, -ing, and the letter doubled before them."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "i"
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word.removesuffix("es") if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]
    for ending in ("ing", "ed", "ly"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and re.search("[aeiouy]", stem):
            word = stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz" else stem
            break
    if word.endswith("y") and len(word) > 3:
        return word[:-1] + "i"
    return word.removesuffix("e") if len(word) > 4 else word
