"""Which language a text asks in, by script and by a few telling characters: no model, no table of n-grams.

A prompt often mixes languages ("What does 사랑해 mean?"), and it is to be answered in the one that it asks in. So
a sentence that asks for something decides before the bulk of the text does, and what is quoted hardly counts.
"""

import re
import unicodedata
from collections import Counter
from typing import Literal

Language = Literal["ko", "en", "ja", "zh", "other"]

HEAD_CHARS, TAIL_CHARS = 2_500, 500
"""How much of a text is looked at: its start, and its end because a long paste is often followed by the request."""

_NOISE = re.compile(
    r"```.*?(?:```|\Z)"  # code blocks, also one that is never closed
    r"|`[^`\n]*`"
    r"|https?://[^\s가-힣]+|www\.[^\s가-힣]+"
    r"|(?<![\w.+-])[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.]+"
    r"|</?[A-Za-z][^<>\n]*>",
    re.DOTALL,
)
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^“”\n]*”|‘[^‘’\n]*’|«[^«»\n]*»|「[^「」\n]*」|『[^『』\n]*』|《[^《》\n]*》"
    r"|(?<![A-Za-z])'[^'\n]+'(?![A-Za-z])"
)
_SEGMENT = re.compile(r"[\n:;：；.?!。？！]+")

_HANGUL = r"\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
_KANA = r"\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9f"
_HAN = r"\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LATIN = r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a"
_WORD = re.compile(
    rf"(?P<hangul>[{_HANGUL}]+)|(?P<kana>[{_KANA}]+)|(?P<han>[{_HAN}]+)"
    rf"|(?P<latin>[{_LATIN}]+(?:['’][{_LATIN}]+)*)|(?P<other>[^\W\d_{_HANGUL}{_KANA}{_HAN}{_LATIN}]+)"
)
_KANA_CHAR = re.compile(rf"[{_KANA}]")
_ENDS_IN_HANGUL = re.compile(rf"[{_HANGUL}][\W\d_]*$")

_ZH_WORDS = frozenset("你您吗嗎呢吧啊她们們这這很怎哪嘛咱哦呀啥")
_ZH_COMMON = frozenset("的了是我在不和他就也都要想吃")

_EN_OPENING = re.compile(
    r"\W*(?:please|pls|can|could|would|will|do|does|did|is|are|was|were|should|what|what's|whats|how|why|when"
    r"|where|who|which|explain|translate|write|tell|give|show|describe|summari[sz]e|compare|define|list|fix|check"
    r"|correct|help|make|create|convert|solve|calculate|find|teach|i|i'm|i'd|my|let's|read|rewrite|proofread)\b",
    re.IGNORECASE,
)
_EN_ASKING = re.compile(
    r"\W*(?:please|pls|can you|could you|would you|what|what's|whats|how|why|which|explain|translate|write"
    r"|tell me|give me|show|describe|summari[sz]e|compare|define|fix|check|correct|help|convert|solve|rewrite"
    r"|proofread|teach)\b",
    re.IGNORECASE,
)
_KO_ASKING = re.compile(
    r"(?:줘|줘요|주세요|주십시오|주라|줄래|줄래요|주실래요|주시겠어요|주실 수 있나요|바랍니다|부탁해|부탁해요"
    r"|부탁드려요|부탁드립니다|뭐야|뭐예요|뭐에요|뭔가요|뭐지|뭐니|뭐임|뜻|뜻이야|뜻이에요|뜻인가요|뜻이죠|무엇인가요|무엇입니까"
    r"|어때|어때요|할까|할까요|인가요|나요|습니까|합니까|입니까|되나요|하나요|맞아|맞나요|설명해|번역|번역해|요약|요약해)\W*$"
)
_KO_ORDER = re.compile(
    r"(?:번역|설명|요약|정리|수정|첨삭|교정|추천|분석|비교|해|알려|고쳐|가르쳐|도와)\s?(?:줘|줘요|주세요|주라|줄래)\W*$"
)
_JA_ASKING = re.compile(
    r"(?:ください|下さい|教えて|訳して|説明して|して|てくれ|ですか|ますか|でしょうか|何|なに|なん|とは|ってなに|かな|お願い|お願いします"
    r"|願います|ほしい|欲しい)\W*$"
)
_ZH_ASKING = re.compile(
    r"^\W*(?:请|請|帮我|幫我|怎么|怎麼|为什么|為什麼|如何|什么是|用中文)|(?:吗|嗎|呢|什么|什麼|什么意思|怎么说|怎麼說)\W*$"
)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_EN_WORDS = _listed(
    "the a an of to in on at for with and or but is are was were be i you he she it we they my your me this"
    " that what between how why can do does not have has will would please from by as if so"
)
_LOANWORDS = _listed("café cafés résumé résumés naïve fiancé fiancée cliché clichés façade")
_FOREIGN_WORDS = _listed(
    "el la los las un una de del que por para como está es y le les des du et est je vous nous une pour avec"
    " dans der die das und ist ich nicht wie ein eine mit auf il lo gli di che per sono não uma você com em và"
    " của là không tôi yang dan ini itu dengan apa saya bonjour hola ciao stai merhaba selamat merci gracias"
    " danke ça qué cómo où être zu den dem"
)


def identify(text: str) -> Language | None:
    """The language that `text` asks in; `None` if it has no letters (numbers, emoji, nothing but code or links)."""
    prose = _prose(text)
    bare = _QUOTED.sub(" ", prose)
    segments = [s for s in _SEGMENT.split(bare if _WORD.search(bare) else prose) if _WORD.search(s)]
    if segments and _KO_ORDER.search(segments[-1]) and not _EN_ASKING.match(segments[-1]):
        return "ko"  # the verb ends the sentence, and the sentence ends the text: nothing before it was the request
    asking = next((language for segment in segments if (language := _asks_in(segment))), None)
    return asking or _most(segments)


def _prose(text: str) -> str:
    """The part that is looked at, without code and links; composed, because macOS types decomposed Hangul."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    return unicodedata.normalize("NFC", _NOISE.sub(" ", text))


def _asks_in(segment: str) -> Language | None:
    """The one language whose way of asking shows: English opens with the request, Korean and Japanese end with it."""
    asks: set[Language] = set()
    if _KO_ASKING.search(segment):
        asks.add("ko")
    if _EN_ASKING.match(segment) and _latin_language(_words(segment)["latin"]) == "en":
        asks.add("en")
    if _JA_ASKING.search(segment) and _KANA_CHAR.search(segment):
        asks.add("ja")
    if _ZH_ASKING.search(segment) and not _KANA_CHAR.search(segment):
        asks.add("zh")
    return asks.pop() if len(asks) == 1 else None


def _most(segments: list[str]) -> Language | None:
    """The language with most words over all segments."""
    score: Counter[Language] = Counter()
    for segment in segments:
        score.update(_weights(segment))
    return score.most_common(1)[0][0] if score else None


def _weights(segment: str) -> Counter[Language]:
    """Two for a word, where two Hangul, Han or kana characters make a word, and more for what frames the segment."""
    weights: Counter[Language] = Counter()
    words = _words(segment)
    weights["ko"] += sum(max(2, len(word)) for word in words["hangul"])
    weights["other"] += 2 * len(words["other"])
    if words["latin"]:
        small = sum(word.lower() in _EN_WORDS for word in words["latin"])
        weights[_latin_language(words["latin"])] += 2 * len(words["latin"]) + small
    if words["han"] or words["kana"]:
        weights[_han_language(words)] += sum(map(len, words["han"] + words["kana"]))
    if _ENDS_IN_HANGUL.search(segment):
        weights["ko"] += 3
    if _EN_OPENING.match(segment) and weights["en"]:
        weights["en"] += 4
    return +weights


def _words(segment: str) -> dict[str, list[str]]:
    """The runs of letters of a segment by script."""
    words: dict[str, list[str]] = {script: [] for script in _WORD.groupindex}
    for match in _WORD.finditer(segment):
        if match.group().isalpha():
            words[match.lastgroup or "other"].append(match.group())
    return words


def _latin_language(words: list[str]) -> Language:
    """English unless the small words or the accents say otherwise: only English has a rule of its own."""
    english = sum(word.lower() in _EN_WORDS for word in words)
    foreign = sum(
        word.lower() in _FOREIGN_WORDS or not word.isascii() for word in words if word.lower() not in _LOANWORDS
    )
    return "other" if foreign > english else "en"


def _han_language(words: dict[str, list[str]]) -> Language:
    """Japanese or Chinese. Without kana, the national character sets tell whose characters these are.

    The everyday characters of Japan (JIS X 0208, level 1) hold its own reformed shapes; GB 2312 holds the simplified
    ones and Big5 the traditional ones.
    """
    if words["kana"]:
        return "ja"
    chars = frozenset("".join(words["han"]))
    everyday, simplified, chinese = _everyday_japanese(chars), _within(chars, "gb2312"), _within(chars, "big5")
    japan = 2 * len(everyday - simplified - chinese)
    china = 2 * len(((simplified | chinese) - everyday) | (chars & _ZH_WORDS)) + len(chars & _ZH_COMMON)
    if japan != china:
        return "ja" if japan > china else "zh"
    return "zh" if chars == simplified else "ja"


def _within(chars: frozenset[str], charset: str) -> frozenset[str]:
    return frozenset("".join(chars).encode(charset, "ignore").decode(charset))


def _everyday_japanese(chars: frozenset[str]) -> frozenset[str]:
    """Rows 16 to 47 of JIS X 0208 are level 1, and `々` stands among the signs."""
    return frozenset(c for c in _within(chars, "euc_jp") if c == "々" or 0xB0 <= c.encode("euc_jp")[0] <= 0xCF)
