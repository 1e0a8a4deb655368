"""Japanese as it is read aloud. eSpeak NG knows kana only and would spell every other character."""

import importlib.util
import re
from typing import TYPE_CHECKING

from serve_app.errors import BadRequest

if TYPE_CHECKING:
    from sudachipy import Tokenizer  # type: ignore[import-untyped]

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff々]")
PARTICLES = {"は": "わ", "へ": "え", "を": "お"}  # written in one way and said in another
HIRAGANA = {chr(code): chr(code - 0x60) for code in range(0x30A1, 0x30F7)}


class Reader:
    """Sudachi with its small dictionary, which is read into memory when the first kanji is met."""

    def __init__(self) -> None:
        self._tokenizer: Tokenizer | None = None

    def kana(self, text: str) -> str:
        """The text with every word in kana. Raises `BadRequest` if it has kanji and there is no dictionary."""
        if not HAN.search(text):
            return text
        return "".join(self._read(*word) for word in self._words(text))

    def _words(self, text: str) -> list[tuple[str, str, str]]:
        """Each word as it is written, as it is read, and what it is."""
        if self._tokenizer is None:
            self._tokenizer = _loaded()
        return [(m.surface(), m.reading_form(), m.part_of_speech()[0]) for m in self._tokenizer.tokenize(text)]

    def _read(self, surface: str, reading: str, kind: str) -> str:
        if kind == "助詞":
            return PARTICLES.get(surface, surface)
        return "".join(HIRAGANA.get(char, char) for char in reading) if HAN.search(surface) else surface


def _loaded() -> "Tokenizer":
    if not (importlib.util.find_spec("sudachipy") and importlib.util.find_spec("sudachidict_small")):
        raise BadRequest("This voice reads Japanese in kana only. Send kana, or ask the operator for the extra 'tts'.")
    from sudachipy import Dictionary

    return Dictionary(dict="small").tokenizer()
