"""Comparing a vector with all of a collection: in memory for SQLite, by pgvector for PostgreSQL. Both are exact.

An approximate index is not worth its price here: numpy compares 100,000 vectors in some 15 ms, an index that is
filtered by collection afterwards loses rows (pgvector's HNSW does, unless told to go on), and what is deleted would
have to be purged from one more place.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import ClassVar, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

Vector = NDArray[np.float32]


class Vectors(Protocol):
    PLACEHOLDER: ClassVar[str]
    """How the value of a vector stands in an INSERT."""

    def stored(self, vector: Vector) -> bytes | str:
        """The value to insert."""

    def nearest(
        self, connection: Connection, collection: tuple[int, int], vector: Vector, most: int, among: Sequence[int]
    ) -> dict[int, float]:
        """Cosines by passage id, of the `most` nearest and of those in `among`. `collection` is key and version."""


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A collection's vectors as they were at `version`; row for row the passage of that id, ids ascending."""

    version: int
    ids: NDArray[np.int64]
    rows: Vector


class InMemory:
    """Keeps the vectors of the collections that were asked last, up to `most_bytes` of them."""

    PLACEHOLDER: ClassVar[str] = ":vector"

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[int, _Matrix] = OrderedDict()
        self._lock = Lock()

    def stored(self, vector: Vector) -> bytes:
        return vector.astype("<f4").tobytes()

    def nearest(
        self, connection: Connection, collection: tuple[int, int], vector: Vector, most: int, among: Sequence[int]
    ) -> dict[int, float]:
        matrix = self._current(connection, *collection)
        if not len(matrix.ids):
            return {}
        cosines = matrix.rows @ vector
        best = np.argpartition(-cosines, min(most, len(cosines)) - 1)[:most]
        chosen = np.union1d(best, np.flatnonzero(np.isin(matrix.ids, np.array(among, dtype=np.int64))))
        return {int(matrix.ids[at]): float(cosines[at]) for at in chosen}

    def _current(self, connection: Connection, key: int, version: int) -> _Matrix:
        with self._lock:
            kept = self._kept.pop(key, None)
        if kept is None or kept.version != version:
            kept = _followed(connection, key, version, kept)
        with self._lock:
            self._kept[key] = kept
            while len(self._kept) > 1 and sum(one.rows.nbytes for one in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)
        return kept


class InDatabase:
    PLACEHOLDER: ClassVar[str] = "CAST(:vector AS vector)"

    def stored(self, vector: Vector) -> str:
        return "[" + ",".join(map(repr, vector.tolist())) + "]"

    def nearest(
        self, connection: Connection, collection: tuple[int, int], vector: Vector, most: int, among: Sequence[int]
    ) -> dict[int, float]:
        cosine = "SELECT id, 1 - (vector <=> CAST(:vector AS vector)) FROM rag_passages WHERE vector IS NOT NULL"
        values = {"vector": self.stored(vector), "key": collection[0], "most": most}
        near = f"{cosine} AND collection = :key ORDER BY vector <=> CAST(:vector AS vector) LIMIT :most"
        found = {row[0]: float(row[1]) for row in connection.execute(sa.text(near), values)}
        if missing := [one for one in among if one not in found]:
            those = sa.text(f"{cosine} AND id IN :ids").bindparams(sa.bindparam("ids", expanding=True))
            rows = connection.execute(those, {"vector": values["vector"], "ids": missing})
            found |= {row[0]: float(row[1]) for row in rows}
        return found


def _followed(connection: Connection, key: int, version: int, old: _Matrix | None) -> _Matrix:
    """The matrix at `version`: what has been deleted since `old` leaves, what has been added joins."""
    last = int(old.ids[-1]) if old is not None and len(old.ids) else 0
    query = (
        "SELECT id, vector FROM rag_passages WHERE collection = :key AND id > :last AND vector IS NOT NULL ORDER BY id"
    )
    added = connection.execute(sa.text(query), {"key": key, "last": last}).all()
    ids = np.array([row[0] for row in added], dtype=np.int64)
    rows = np.frombuffer(b"".join(row[1] for row in added), "<f4").reshape(len(added), -1) if added else None
    if old is None or not len(old.ids):
        return _Matrix(version, ids, rows if rows is not None else np.empty((0, 0), np.float32))
    query = "SELECT id FROM rag_passages WHERE collection = :key AND id <= :last AND vector IS NOT NULL"
    alive = np.isin(old.ids, np.array(connection.scalars(sa.text(query), {"key": key, "last": last}).all(), np.int64))
    kept = old.rows[alive]
    return _Matrix(
        version, np.concatenate([old.ids[alive], ids]), kept if rows is None else np.concatenate([kept, rows])
    )
