"""Text in the pieces in which it is spoken, so that the first is heard while the next is made."""

import re
import unicodedata
from collections.abc import Iterator

LONGEST = 280  # characters of a piece: some twenty seconds
END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s|$)|[。！？]+[」』”’）]*|\n+""")
TITLES = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|No|e\.g|i\.e)|\b[A-Z])\.$")
REST = re.compile(r"[,;:、，；：·—](?=\D)|\s")


def sentences(text: str) -> list[str]:
    """The sentences of a text, long ones in parts; none if there is nothing in it that can be spoken."""
    parts = (part for sentence in _split(cleaned(text)) for part in _short(sentence.strip()))
    return [part for part in parts if speakable(part)]


def cleaned(text: str) -> str:
    """Without characters that are no text: control characters, and halves of pairs."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs") else " " for char in text)


def speakable(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in END.finditer(text):
        so_far = text[start : end.end()]
        if not TITLES.search(so_far):
            yield so_far
            start = end.end()
    yield text[start:]


def _short(sentence: str) -> Iterator[str]:
    while len(sentence) > LONGEST:
        rests = [rest.end() for rest in REST.finditer(sentence, 0, LONGEST)]
        cut = rests[-1] if rests else LONGEST
        yield sentence[:cut].strip()
        sentence = sentence[cut:].strip()
    yield sentence
