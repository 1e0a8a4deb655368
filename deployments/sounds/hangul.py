"""Hangul syllables and the letters (jamo) that they are made of."""

from dataclasses import dataclass

ONSETS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
CODAS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
FIRST, LAST = 0xAC00, 0xD7A3


@dataclass(frozen=True, slots=True)
class Syllable:
    """Compatibility jamo. `onset` ㅇ is silent; `coda` may be empty."""

    onset: str
    vowel: str
    coda: str = ""

    def __str__(self) -> str:
        index = (ONSETS.index(self.onset) * len(VOWELS) + VOWELS.index(self.vowel)) * len(CODAS)
        return chr(FIRST + index + CODAS.index(self.coda))


def is_syllable(character: str) -> bool:
    return FIRST <= ord(character) <= LAST


def split(character: str) -> Syllable:
    index = ord(character) - FIRST
    vowel, coda = divmod(index % (len(VOWELS) * len(CODAS)), len(CODAS))
    return Syllable(ONSETS[index // (len(VOWELS) * len(CODAS))], VOWELS[vowel], CODAS[coda])
