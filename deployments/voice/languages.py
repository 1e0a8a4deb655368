"""Which language a sentence is in, as far as a voice has to know."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from serve_app.errors import BadRequest

SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")),
    ("ko", re.compile(r"[\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e]")),
    ("zh", re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")),
)
CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,2}")
FULL_NAMES: Mapping[str, str] = MappingProxyType(
    {"korean": "ko", "english": "en", "japanese": "ja", "chinese": "zh", "한국어": "ko", "영어": "en"}
)


def identified(text: str) -> str:
    """`ja` if there are kana, `ko` if there are Hangul, `zh` if there are only Han characters, or else `en`.

    A name in Latin letters within a Korean sentence makes it no English one.
    """
    return next((language for language, letters in SCRIPTS if letters.search(text)), "en")


def known(language: str) -> str:
    """A language code in lower case, such as `ko` or `en-gb`. Raises `BadRequest` for what is none."""
    code = language.strip().casefold().replace("_", "-")
    code = FULL_NAMES.get(code, code)
    if not CODE.fullmatch(code):
        raise BadRequest("'language' should be a code such as ko, en, ja or zh.", param="language")
    return code
