"""Wordings as plain text, one template a line under `# section` headings; sections ending in `held` are for evaluation.

`!` in front marks a story, where operands must make sense. Template syntax: see `grammar.py`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Wordings:
    """All wordings of one language."""

    sections: dict[str, list[str]]
    macros: dict[str, str]
    shared: dict[tuple[str, ...], list[tuple[str, ...]]]
    """Names drawn once per question, so that a story keeps to its people and things."""

    def lines(self, section: str, held: bool = False) -> list[str]:
        return self.sections[f"{section} held" if held else section]

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
    for line in (FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines():
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
