"""How something is said: what a style changes about a voice."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serve_app.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Style:
    """`pace` 1 is normal; `pitch`, `range` (how far it moves) and `volume` are eSpeak's, around 50, 50 and 100."""

    pace: float = 1.0
    pitch: int = 50
    range: int = 50
    volume: int = 100


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "neutral": Style(),
        "happy": Style(pace=1.08, pitch=64, range=80, volume=105),
        "excited": Style(pace=1.2, pitch=72, range=95, volume=110),
        "sad": Style(pace=0.82, pitch=38, range=20, volume=80),
        "angry": Style(pace=1.12, pitch=44, range=85, volume=115),
        "calm": Style(pace=0.88, pitch=45, range=32, volume=88),
        "serious": Style(pace=0.95, pitch=38, range=35),
    }
)


def style(name: str) -> Style:
    found = STYLES.get(name.casefold())
    if found is None:
        raise BadRequest(f"'style' should be one of {', '.join(STYLES)}.", param="style")
    return found
