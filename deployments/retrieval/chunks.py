"""Cutting a document into passages along its structure: headings, paragraphs, lists, tables, code.

A passage never crosses a heading. It is a stretch of the document, so that offsets point to it; what it needs from
elsewhere to be understood (the headings above it, the header of its table) is kept beside it, in `context`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t#]*$")
FENCE = re.compile(r"[ \t]*(```|~~~)")
TABLE = re.compile(r"[ \t]*\|.*\|[ \t]*$")
RULE = re.compile(r"[ \t]*\|[\s:|-]+\|[ \t]*$")  # the line under a table's header
ITEM = re.compile(r"[ \t]*([-*+•]|\d{1,3}[.)])[ \t]+\S")
SENTENCE = re.compile(r"(?:[.!?…。！？]+[\"'”’)\]]*(?=\s)|(?<=[。！？]))\s*")
LONGEST_HEADING = 200


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters `start` to `end` of the document."""

    start: int
    end: int
    text: str
    context: str = ""

    @property
    def indexed(self) -> str:
        """What it is found by."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is not cut any further: a sentence, a list item, a row. Pieces of one block belong together."""

    start: int
    end: int
    block: int
    context: str


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def passages(text: str, size: int, overlap: int) -> list[Passage]:
    """The passages of `text`, in order, of at most `size` characters, neighbours sharing up to `overlap`."""
    found: list[Passage] = []
    for section in _sections(text):
        pieces = [short for piece in section for short in _cut(text, piece, size)]
        found += _packed(text, pieces, size, overlap)
    return found


def _sections(text: str) -> Iterator[list[_Piece]]:
    """The pieces below each heading. A heading with nothing below it is a piece itself, so that nothing is lost."""
    titles: dict[int, str] = {}
    open_heading: _Line | None = None
    body: list[_Line] = []
    fenced = False
    for line in _lines(text):
        fenced ^= bool(FENCE.match(line.text))
        heading = None if fenced else HEADING.match(line.text)
        if not heading:
            body.append(line)
            continue
        level = len(heading[1])
        yield _section(body, titles, open_heading if level <= max(titles, default=0) else None)
        titles = {above: title for above, title in titles.items() if above < level}
        titles[level] = heading[2].strip()[:LONGEST_HEADING]
        open_heading, body = line, []
    yield _section(body, titles, open_heading)


def _section(body: Sequence[_Line], titles: dict[int, str], heading: _Line | None) -> list[_Piece]:
    pieces = list(_pieces(body, " > ".join(titles.values())))
    if not pieces and heading:
        return [_Piece(heading.start, heading.end, 0, "")]
    return pieces


def _lines(text: str) -> Iterator[_Line]:
    at = 0
    for line in text.splitlines(keepends=True):
        yield _Line(at, line.rstrip())
        at += len(line)


def _pieces(lines: Sequence[_Line], titles: str) -> Iterator[_Piece]:
    for number, block in enumerate(_blocks(lines)):
        if TABLE.match(block[0].text):
            yield from _rows(block, number, titles)
        elif FENCE.match(block[0].text):
            yield from (_Piece(line.start, line.end, number, titles) for line in block if line.text)
        else:
            yield from _sentences(block, number, titles)


def _blocks(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Paragraphs, tables and fenced code, each a list of lines."""
    block: list[_Line] = []
    fenced = False
    for line in lines:
        fence = bool(FENCE.match(line.text))
        ends = not line.text and not fenced
        starts = (fence and not fenced) or (
            bool(block) and bool(TABLE.match(block[-1].text)) != bool(TABLE.match(line.text))
        )
        if block and (ends or (starts and not fenced)):
            yield block
            block = []
        if line.text or fenced:
            block.append(line)
        fenced ^= fence
    if block:
        yield block


def _rows(block: Sequence[_Line], number: int, titles: str) -> Iterator[_Piece]:
    """A row without its header means nothing, so the header goes with every row but itself."""
    header = block[0].text.strip() if len(block) > 1 and RULE.match(block[1].text) else ""
    yield _Piece(block[0].start, block[0].end, number, titles)
    context = "\n".join(part for part in (titles, header[:LONGEST_HEADING]) if part)
    yield from (_Piece(row.start, row.end, number, context) for row in block[1:])


def _sentences(block: Sequence[_Line], number: int, titles: str) -> Iterator[_Piece]:
    """Lines are joined, as Markdown does, but for list items."""
    start = 0
    for at in range(1, len(block) + 1):
        if at == len(block) or ITEM.match(block[at].text):
            yield from _split(block[start:at], number, titles)
            start = at


def _split(lines: Sequence[_Line], number: int, titles: str) -> Iterator[_Piece]:
    if not lines:
        return
    first = lines[0].start
    joined = "\n".join(line.text.ljust(after.start - line.start - 1) for line, after in pairwise(lines))
    joined = f"{joined}\n{lines[-1].text}" if len(lines) > 1 else lines[0].text
    start = 0
    for end in [match.end() for match in SENTENCE.finditer(joined)] + [len(joined)]:
        if joined[start:end].strip():
            yield _Piece(first + start, first + start + len(joined[start:end].rstrip()), number, titles)
        start = end


def _cut(text: str, piece: _Piece, size: int) -> Iterator[_Piece]:
    """A piece that is longer than a passage is cut at spaces, or where it must be."""
    start = piece.start
    while piece.end - start > size:
        space = text.rfind(" ", start + size // 2, start + size)
        end = space if space > 0 else start + size
        yield replace(piece, start=start, end=end)
        start = end
    if text[start : piece.end].strip():
        yield replace(piece, start=start)


def _packed(text: str, pieces: Sequence[_Piece], size: int, overlap: int) -> Iterator[Passage]:
    at = 0
    while at < len(pieces):
        end = _reach(pieces, at, size)
        yield _passage(text, pieces[at:end])
        if end == len(pieces):
            return
        following = end
        while following - 1 > at and pieces[end - 1].end - pieces[following - 1].start <= overlap:
            following -= 1
        at = following


def _reach(pieces: Sequence[_Piece], at: int, size: int) -> int:
    """How many pieces fit into a passage; better a whole block less than half a block more."""
    end = at + 1
    while end < len(pieces) and pieces[end].end - pieces[at].start <= size:
        end += 1
    if end == len(pieces) or pieces[end].block != pieces[end - 1].block:
        return end
    whole = end
    while whole > at + 1 and pieces[whole].block == pieces[whole - 1].block:
        whole -= 1
    return whole if pieces[whole - 1].end - pieces[at].start >= size // 2 and whole > at + 1 else end


def _passage(text: str, pieces: Sequence[_Piece]) -> Passage:
    start, end = pieces[0].start, pieces[-1].end
    while start < end and text[start].isspace():
        start += 1
    return Passage(start, end, text[start:end], pieces[0].context)


def sentences(text: str) -> list[str]:
    """The sentences, list items and rows of a passage."""
    found = [text[piece.start : piece.end].strip() for piece in _pieces(list(_lines(text)), "")]
    return [sentence for sentence in found if sentence and not RULE.match(sentence)]
