"""What a reference text should sound like: its words, each with the ways in which it may be said."""

from dataclasses import dataclass

from deployments.sounds import english, korean
from deployments.sounds.hangul import Syllable
from deployments.sounds.korean import NASAL, TENSE
from deployments.sounds.phones import of_syllable
from deployments.sounds.text import Reading, Word, read


@dataclass(frozen=True, slots=True)
class Unit:
    """A phone of the reference. `syllable` counts within the word; -1 in English."""

    phone: str
    syllable: int = -1


@dataclass(frozen=True, slots=True)
class Spoken:
    """One way of saying a word; `syllables` as they sound, in Korean."""

    units: tuple[Unit, ...]
    syllables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceWord:
    word: Word
    ways: tuple[Spoken, ...]


def reference(text: str, language: str) -> tuple[list[ReferenceWord], Reading]:
    reading = read(text, language)
    words = reading.words
    ways = []
    for at, word in enumerate(words):
        before = words[at - 1] if at else None
        after = words[at + 1] if at + 1 < len(words) else None
        ways.append(
            ReferenceWord(word, tuple(_korean(word, before, after) if word.language == "ko" else _english(word)))
        )
    return [word for word in ways if word.ways and word.ways[0].units], reading


def _english(word: Word) -> list[Spoken]:
    """All combinations would be too many for long numbers: the usual way, and each other way of a single word."""
    parts = [english.pronounce(part) for part in word.said.split()]
    if len(parts) == 1:
        return [_of_phones(way) for way in parts[0]]
    return [_of_phones([phone for part in parts for phone in part[0]])]


def _of_phones(phones: list[str]) -> Spoken:
    return Spoken(tuple(Unit(phone) for phone in phones))


def _korean(word: Word, before: Word | None, after: Word | None) -> list[Spoken]:
    """As by itself, and as it may sound in the stream of speech: 못 나가 → 몬 나가, 할 수 → 할 쑤, 나의 → 나에."""
    syllables = korean.pronounce(word.said)
    ways = [syllables]
    if not syllables:
        return []
    if word.said.endswith("의") and len(syllables) > 1:
        ways.append([*syllables[:-1], Syllable(syllables[-1].onset, "ㅔ")])
    following = _first(after)
    last = syllables[-1]
    if following and last.coda in NASAL and following.onset in "ㄴㅁ":
        ways.append([*syllables[:-1], Syllable(last.onset, last.vowel, NASAL[last.coda])])
    previous = korean.pronounce(before.said)[-1:] if before and before.language == "ko" else []
    first = syllables[0]
    if previous and previous[0].coda in ("ㄱ", "ㄷ", "ㅂ", "ㄹ") and first.onset in TENSE:
        ways.append([Syllable(TENSE[first.onset], first.vowel, first.coda), *syllables[1:]])
    return [_of_syllables(way) for way in ways]


def _first(word: Word | None) -> Syllable | None:
    syllables = korean.pronounce(word.said) if word and word.language == "ko" else []
    return syllables[0] if syllables else None


def _of_syllables(syllables: list[Syllable]) -> Spoken:
    units = [Unit(phone, at) for at, syllable in enumerate(syllables) for phone in of_syllable(syllable)]
    return Spoken(tuple(units), tuple(map(str, syllables)))
