"""Wordings as plain text, one template a line under `# section` headings; sections ending in `held` are for evaluation.

Sections ending in `dev` are for watching a run. A section may go on in the second file. `!` in front marks a story,
where operands must make sense. Template syntax: see `grammar.py`.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tools.nano_tutor.grammar import pattern, plain

FOLDER = Path(__file__).parent
PARTS = ("", "_more")


@dataclass(frozen=True, slots=True)
class Wordings:
    """All wordings of one language."""

    sections: dict[str, list[str]]
    macros: dict[str, str]
    shared: dict[tuple[str, ...], list[tuple[str, ...]]]
    """Names drawn once per question, so that a story keeps to its people and things."""
    held_patterns: dict[str, re.Pattern[str]] = field(default_factory=dict)

    def lines(self, section: str, wording: str = "seen") -> list[str]:
        """Lines for one of the wordings `seen`, `dev` or `held`; not every section has lines of its own for `dev`."""
        if wording == "dev" and f"{section} dev" not in self.sections:
            return self.sections[section]
        return self.sections[section if wording == "seen" else f"{section} {wording}"]

    def makes_held(self, section: str, text: str) -> bool:
        """True if a held-out line of the section could make this very text."""
        if f"{section} held" not in self.sections:
            return False
        if section not in self.held_patterns:
            self.held_patterns[section] = pattern(self.sections[f"{section} held"], self.macros)
        return self.held_patterns[section].fullmatch(plain(text.lstrip("!"))) is not None

    def pairs(self, section: str) -> list[tuple[str, ...]]:
        return [fields(line) for line in self.sections[section]]


@dataclass(frozen=True, slots=True)
class Term:
    """Names (as asked for) and the definition in one language."""

    names: list[str]
    definition: str


def fields(line: str) -> tuple[str, ...]:
    return tuple(line.split(" / "))


@cache
def wordings(language: str) -> Wordings:
    sections: dict[str, list[str]] = {}
    texts = [(FOLDER / f"{language}{part}.txt").read_text(encoding="utf-8") for part in PARTS]
    for line in "\n".join(texts).splitlines():
        if line.startswith("# "):
            current = sections.setdefault(line[2:], [])
        elif line:
            current.append(line)
    macros = {name.removeprefix("macro "): lines[0] for name, lines in sections.items() if name.startswith("macro ")}
    shared = {
        tuple(name.split()[1:]): [fields(line) for line in lines]
        for name, lines in sections.items()
        if name.startswith("shared ")
    }
    return Wordings(sections, macros, shared)


@cache
def terms(language: str) -> list[Term]:
    """The closed list of terms; the file holds blocks of English names, definition, Korean names, definition."""
    blocks = (FOLDER / "terms.txt").read_text(encoding="utf-8").strip().split("\n\n")
    first = 0 if language == "en" else 2
    rows = [block.split("\n")[first : first + 2] for block in blocks]
    return [Term(names.split("|"), definition) for names, definition in rows]


@cache
def odd_equations() -> list[str]:
    return (FOLDER / "odd_equations.txt").read_text(encoding="utf-8").splitlines()
