"""Reading a trace of requests: CSV, plain or gzip, with a header."""

import csv
import gzip
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from serve_app.errors import ConfigError

GAP_S = 900.0
"""A silence of all engines that is longer than this is said: it may be a hole in the trace."""

Row = Mapping[str, str]
Name = Callable[[Row], str]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival: four lists of one length, and the engines' names.

    `engine` holds indices into `engines`, `t` seconds from the first request on. `notes` says what was mended.
    """

    engines: tuple[str, ...]
    t: list[float]
    engine: list[int]
    prompt: list[int]
    output: list[int]
    notes: tuple[str, ...] = ()
    start: float = 0.0

    def __len__(self) -> int:
        return len(self.t)

    @property
    def seconds(self) -> float:
        return self.t[-1] if self.t else 0.0


@dataclass(slots=True)
class _Rows:
    names: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[float, int, int, int]] = field(default_factory=list)


def read_trace(path: Path, name: Name | None = None) -> Trace:
    """The requests of `path`, sorted. `name` says which engine a row goes to; otherwise its column `engine` does.

    Raises `ConfigError` that names the line for anything that is not a request.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    return parse_trace(text, path.name, name)


def parse_trace(text: str, source: str, name: Name | None = None) -> Trace:
    reader = csv.DictReader(io.StringIO(text))
    needed = {"t", "in_tokens", "out_tokens"} | (set() if name else {"engine"})
    missing = sorted(needed - set(reader.fieldnames or ()))
    if missing:
        raise ConfigError(f"{source} has no column {', '.join(missing)}; it needs {', '.join(sorted(needed))}")
    found = _Rows()
    for number, row in enumerate(reader, start=2):
        _read(row, found, name, f"{source}, line {number}")
    if not found.rows:
        raise ConfigError(f"{source} holds no request")
    return _sorted(found)


def _read(row: Row, found: _Rows, name: Name | None, where: str) -> None:
    try:
        t, prompt, output = float(row["t"]), int(row["in_tokens"]), int(row["out_tokens"])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: t, in_tokens and out_tokens must be numbers") from error
    engine = name(row) if name else row["engine"]
    if not math.isfinite(t) or prompt < 0 or output < 0:
        raise ConfigError(f"{where}: t must be finite, and in_tokens and out_tokens at least 0")
    if not engine:
        raise ConfigError(f"{where}: engine is empty")
    found.rows.append((t, found.names.setdefault(engine, len(found.names)), prompt, output))


def _sorted(found: _Rows) -> Trace:
    notes = []
    times = [row[0] for row in found.rows]
    late = sum(later < earlier for earlier, later in pairwise(times))
    if late:
        found.rows.sort(key=lambda row: row[0])
        times = [row[0] for row in found.rows]
        notes.append(f"{late} of {len(times)} requests came before the line above them: the trace was sorted by t")
    gaps = [later - earlier for earlier, later in pairwise(times) if later - earlier > GAP_S]
    if gaps:
        notes.append(
            f"{len(gaps)} gaps of more than {GAP_S / 60:.0f} min without any request, {sum(gaps):.0f} s in all"
        )
    start = times[0] if times[0] < 0 or times[0] > GAP_S else 0.0
    columns = list(zip(*found.rows, strict=True))
    return Trace(
        engines=tuple(found.names),
        t=[t - start for t in columns[0]],
        engine=list(columns[1]),
        prompt=list(columns[2]),
        output=list(columns[3]),
        notes=tuple(notes),
        start=start,
    )
