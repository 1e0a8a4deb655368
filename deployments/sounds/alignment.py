"""Which sound of the reference became which sound that was heard: an edit distance weighted by phonetic features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.sounds.phones import distance
from deployments.sounds.reference import ReferenceWord, Spoken, Unit

MISSING, EXTRA = 0.75, 0.65
"""What it costs the alignment to leave a sound out, or to say one too many; a substitution costs its distance."""
TINY = 1e-6
Row = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Pair:
    """`unit` without `heard` is missing; `heard`, an index, without `unit` is extra."""

    unit: Unit | None
    heard: int | None


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """The way in which the word was said that comes nearest, and its sounds; `before` are extra ones in front of it."""

    word: ReferenceWord
    way: Spoken
    pairs: tuple[Pair, ...]


def align(words: list[ReferenceWord], heard: list[str]) -> tuple[list[AlignedWord], list[int]]:
    """Every word with its sounds, and the indices of those heard that belong to none.

    Rows are computed whole: `minimum.accumulate` takes care of extra sounds, whose cost is the same everywhere.
    """
    columns = np.arange(len(heard) + 1)
    row = columns * EXTRA
    entries: list[Row] = []
    tables: list[list[list[Row]]] = []
    choices: list[npt.NDArray[np.int64]] = []
    costs: dict[str, Row] = {}
    for word in words:
        entries.append(row)
        tables.append([_table(row, way, heard, costs, columns) for way in word.ways])
        ends = np.stack([table[-1] for table in tables[-1]])
        choices.append(ends.argmin(axis=0))
        row = ends.min(axis=0)
    return _trace(words, heard, tables, choices, costs)


def _table(row: Row, way: Spoken, heard: list[str], costs: dict[str, Row], columns: npt.NDArray[np.int64]) -> list[Row]:
    rows = [row]
    for unit in way.units:
        if unit.phone not in costs:
            costs[unit.phone] = np.array([distance(unit.phone, phone) for phone in heard])
        best = rows[-1] + MISSING
        best[1:] = np.minimum(best[1:], rows[-1][:-1] + costs[unit.phone])
        rows.append(np.minimum.accumulate(best - columns * EXTRA) + columns * EXTRA)
    return rows


def _trace(
    words: list[ReferenceWord],
    heard: list[str],
    tables: list[list[list[Row]]],
    choices: list[npt.NDArray[np.int64]],
    costs: dict[str, Row],
) -> tuple[list[AlignedWord], list[int]]:
    column = len(heard)
    aligned: list[AlignedWord] = []
    outside: list[int] = []
    for at in range(len(words) - 1, -1, -1):
        chosen = int(choices[at][column])
        way, rows = words[at].ways[chosen], tables[at][chosen]
        pairs: list[Pair] = []
        for index in range(len(way.units), 0, -1):
            unit = way.units[index - 1]
            while column and abs(rows[index][column - 1] + EXTRA - rows[index][column]) < TINY:
                column -= 1  # of equals, the earliest is taken: what is extra stands behind, not inside
                pairs.append(Pair(None, column))
            value = rows[index][column]
            if column and abs(rows[index - 1][column - 1] + costs[unit.phone][column - 1] - value) < TINY:
                column -= 1
                pairs.append(Pair(unit, column))
            else:
                pairs.append(Pair(unit, None))
        pairs.reverse()
        kept, trailing = _without_tail(pairs)
        outside += trailing
        aligned.append(AlignedWord(words[at], way, kept))
    outside += range(column)
    aligned.reverse()
    return aligned, sorted(outside)


def _without_tail(pairs: list[Pair]) -> tuple[tuple[Pair, ...], list[int]]:
    """Extra sounds at the end of a word stand between words."""
    end = len(pairs)
    while end and pairs[end - 1].unit is None:
        end -= 1
    return tuple(pairs[:end]), [pair.heard for pair in pairs[end:] if pair.heard is not None]
