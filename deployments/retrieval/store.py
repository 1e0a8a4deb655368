"""Documents, their passages and both indexes of them in one database: SQLite or PostgreSQL with pgvector.

The database is the truth. A document is acknowledged when it is committed, with its passages, vectors and terms; after
a delete none of them is left. Nothing is indexed anywhere else: the vectors that `vectors.py` keeps in memory for
SQLite follow the version of their collection, so that every process sees what any other has written.

Terms are kept as an inverted index of their own and not with a full-text extension, because one code path then serves
both databases, and because no extension of either cuts Korean into terms that find it again.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from deployments.retrieval.vectors import InDatabase, InMemory, Vectors
from serve_app.errors import ConfigError, NotFound, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATIENCE_S = 5  # for another process's transaction or a connection
LARGEST_BATCH = 500  # values in one IN (…)
K1, B, PIVOT = 1.2, 0.3, 400
"""Of BM25 (Robertson and Zaragoza, 2009). Passages are cut to about one size, so a fixed pivot stands for their average
length, in characters; with it a term's weight in a passage never changes and is computed once, when it is added."""
SMALLEST = 100
"""Passages that a collection is counted as having at least: in a handful, how rare a word is says nothing."""

COMMON = """
CREATE TABLE IF NOT EXISTS rag_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rag_collections ({id}, name TEXT NOT NULL UNIQUE, version BIGINT NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS rag_documents ({id}, document TEXT NOT NULL UNIQUE, collection BIGINT NOT NULL,
  name TEXT NOT NULL, sha256 TEXT NOT NULL, bytes BIGINT NOT NULL, characters BIGINT NOT NULL, passages BIGINT NOT NULL,
  created BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS rag_documents_collection ON rag_documents (collection, id);
CREATE TABLE IF NOT EXISTS rag_passages ({id}, collection BIGINT NOT NULL, document TEXT NOT NULL,
  first BIGINT NOT NULL, last BIGINT NOT NULL, page BIGINT, context TEXT NOT NULL, text TEXT NOT NULL, vector {vector});
CREATE INDEX IF NOT EXISTS rag_passages_document ON rag_passages (document);
CREATE INDEX IF NOT EXISTS rag_passages_collection ON rag_passages (collection, id);
CREATE TABLE IF NOT EXISTS rag_postings (collection BIGINT NOT NULL, term BIGINT NOT NULL, passage BIGINT NOT NULL,
  weight REAL NOT NULL, PRIMARY KEY (collection, term, passage)){postings};
CREATE INDEX IF NOT EXISTS rag_postings_passage ON rag_postings (passage);
"""
DIALECTS = {
    "sqlite": {"id": "id INTEGER PRIMARY KEY AUTOINCREMENT", "vector": "BLOB", "postings": " WITHOUT ROWID"},
    "postgresql": {
        "id": "id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "vector": "vector",
        "postings": "",
    },
}
ONE_AT_A_TIME = 7_226_544_631  # PostgreSQL's advisory lock for making the tables


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    name: str
    sha256: str
    bytes: int
    characters: int
    passages: int
    created: int


@dataclass(frozen=True, slots=True)
class NewPassage:
    """`terms` are its terms with their counts, `weight` its length in characters, for BM25."""

    first: int
    last: int
    page: int | None
    context: str
    text: str
    terms: dict[int, int]
    vector: "NDArray[np.float32] | None"


@dataclass(frozen=True, slots=True)
class Found:
    """A passage as it is stored. Offsets are characters of the document's text."""

    id: int
    document: str
    name: str
    first: int
    last: int
    page: int | None
    context: str
    text: str


class Store:
    """Blocking; to be called from threads. Raises `Unavailable` while the database is away.

    `label` says what made the vectors. A database with vectors of another label is refused: they don't compare.
    """

    def __init__(self, url: str, label: str, cache_bytes: int) -> None:
        self._engine = _engine(sa.make_url(url))
        self._sqlite = self._engine.dialect.name == "sqlite"
        self._vectors: Vectors = InMemory(cache_bytes) if self._sqlite else InDatabase()
        try:
            self._open(label)
        except BaseException:  # nobody will call close()
            self._engine.dispose()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def add(self, collection: str, document: Document, passages: Sequence[NewPassage]) -> Document:
        """Store all of it or nothing. A document that is there already stays as it is, and is returned."""
        with self._writing() as connection:
            key = self._changed(connection, collection)
            if there := _document(connection, key, document.id):
                return there
            _insert_document(connection, key, document)
            ids = [self._insert_passage(connection, key, document.id, passage) for passage in passages]
            rows = [row for at, passage in zip(ids, passages, strict=True) for row in _postings(key, at, passage)]
            self._insert_postings(connection, rows)
        return document

    def find(self, collection: str, document_id: str) -> Document | None:
        with self._reading() as connection:
            key = _collection(connection, collection)
            return None if key is None else _document(connection, key[0], document_id)

    def documents(self, collection: str, after: str | None, most: int) -> list[Document]:
        """Up to `most` documents, newest first, those before `after` (exclusive) left out. Raises NotFound."""
        with self._reading() as connection:
            key = _collection(connection, collection)
            if key is None and after is None:
                return []
            before = None
            if after is not None:
                query = "SELECT id FROM rag_documents WHERE document = :after AND collection = :key"
                before = connection.scalar(sa.text(query), {"after": after, "key": key[0] if key else -1})
                if before is None:
                    raise _no_document()
            query = (
                "SELECT document, name, sha256, bytes, characters, passages, created FROM rag_documents "
                "WHERE collection = :key AND id < :before ORDER BY id DESC LIMIT :most"
            )
            values = {"key": key[0] if key else -1, "before": before or 2**62, "most": most}
            return [Document(*row) for row in connection.execute(sa.text(query), values)]

    def delete(self, collection: str, document_id: str) -> None:
        """Remove the document from every table and index. Raises NotFound."""
        with self._writing() as connection:
            key = _collection(connection, collection)
            if key is None or _document(connection, key[0], document_id) is None:
                raise _no_document()
            self._changed(connection, collection)
            for table, column in (("postings", "passage"), ("passages", "id")):
                query = f"DELETE FROM rag_{table} WHERE {column} IN (SELECT id FROM rag_passages WHERE document = :id)"
                connection.execute(sa.text(query), {"id": document_id})
            connection.execute(sa.text("DELETE FROM rag_documents WHERE document = :id"), {"id": document_id})
        self._forget()

    def lexical(self, collection: str, terms: Sequence[int], most: int) -> list[tuple[int, float]]:
        """Passages with any of the terms, best first: their ids, and BM25 as a share of the most that it could be."""
        with self._reading() as connection:
            key = _collection(connection, collection)
            if key is None or not terms:
                return []
            query = "SELECT COUNT(*) FROM rag_passages WHERE collection = :key"
            passages = max(connection.scalar(sa.text(query), {"key": key[0]}) or 0, SMALLEST)
            frequency = _frequencies(connection, key[0], terms)
            rarity = {term: _rarity(frequency.get(term, 0), passages) for term in terms}
            total = sum(rarity.values()) * (K1 + 1)
            weights = {term: rarity[term] / total for term in frequency}
            return _scored(connection, key[0], weights, most) if weights else []

    def nearest(
        self, collection: str, vector: "NDArray[np.float32]", most: int, among: Sequence[int] = ()
    ) -> dict[int, float]:
        """The ids of the passages whose vectors are nearest, and of those in `among`, with their cosines.

        Exact: every vector of the collection is compared.
        """
        with self._reading() as connection:
            key = _collection(connection, collection)
            return {} if key is None else self._vectors.nearest(connection, key, vector, most, among)

    def passages(self, ids: Sequence[int]) -> dict[int, Found]:
        """Passages by their ids; those that have been deleted meanwhile are left out."""
        query = (
            "SELECT p.id, p.document, d.name, p.first, p.last, p.page, p.context, p.text FROM rag_passages p "
            "JOIN rag_documents d ON d.document = p.document WHERE p.id IN :ids"
        )
        statement = sa.text(query).bindparams(sa.bindparam("ids", expanding=True))
        with self._reading() as connection:
            rows = [row for part in _parts(ids) for row in connection.execute(statement, {"ids": part})]
        return {row[0]: Found(*row) for row in rows}

    def _open(self, label: str) -> None:
        script = COMMON.format(**DIALECTS[self._engine.dialect.name])
        with self._writing() as connection:
            if not self._sqlite:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({ONE_AT_A_TIME})"))
                connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
            for statement in filter(str.strip, script.split(";")):
                connection.execute(sa.text(statement))
            add = "INSERT INTO rag_meta (key, value) VALUES ('vectors', :label) ON CONFLICT DO NOTHING"
            connection.execute(sa.text(add), {"label": label})
            stored = connection.scalar(sa.text("SELECT value FROM rag_meta WHERE key = 'vectors'"))
        if stored != label:
            raise ConfigError(
                f"vectors: the store was filled with '{stored}', whose vectors don't compare with those of '{label}'; "
                "name another store in `url` and add the documents again"
            )

    def _changed(self, connection: Connection, collection: str) -> int:
        """The collection's key, made if need be; its version is raised, which also makes writers take turns."""
        query = (
            "INSERT INTO rag_collections (name, version) VALUES (:name, 1) "
            "ON CONFLICT (name) DO UPDATE SET version = rag_collections.version + 1 RETURNING id"
        )
        key = connection.scalar(sa.text(query), {"name": collection})
        assert isinstance(key, int)
        return key

    def _insert_passage(self, connection: Connection, key: int, document: str, passage: NewPassage) -> int:
        query = (
            "INSERT INTO rag_passages (collection, document, first, last, page, context, text, vector) "
            f"VALUES (:key, :document, :first, :last, :page, :context, :text, {self._vectors.PLACEHOLDER}) RETURNING id"
        )
        values = {
            "key": key,
            "document": document,
            "first": passage.first,
            "last": passage.last,
            "page": passage.page,
            "context": passage.context,
            "text": passage.text,
            "vector": None if passage.vector is None else self._vectors.stored(passage.vector),
        }
        at = connection.scalar(sa.text(query), values)
        assert isinstance(at, int)
        return at

    def _insert_postings(self, connection: Connection, rows: list[tuple[int, int, int, float]]) -> None:
        if not rows:
            return
        if self._sqlite:
            connection.exec_driver_sql("INSERT INTO rag_postings VALUES (?, ?, ?, ?)", rows)
            return
        columns = [list(column) for column in zip(*rows, strict=True)]
        query = "INSERT INTO rag_postings SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::real[])"
        connection.exec_driver_sql(query, tuple(columns))

    def _forget(self) -> None:
        """SQLite overwrites deleted rows at once (`secure_delete`), but its log keeps old pages until it is cut."""
        if self._sqlite:
            with contextlib.suppress(DBAPIError), self._engine.connect() as connection:  # a reader may hold the log
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _patient(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _patient(), self._engine.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin() if not self._sqlite else _committing(connection):
                yield connection


def new_document(document_id: str, name: str, sha256: str, size: int, characters: int, passages: int) -> Document:
    return Document(document_id, name, sha256, size, characters, passages, int(time.time()))


@contextlib.contextmanager
def _committing(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:  # a cancelled writer, too, must not leave its transaction open
        connection.rollback()
        raise
    connection.commit()


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout, OSError) as error:
        raise Unavailable("The store of documents is away. Please try again.") from error


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": PATIENCE_S})
    if url.database:
        Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": PATIENCE_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, with the write lock taken at once
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _collection(connection: Connection, name: str) -> tuple[int, int] | None:
    """Its key and version."""
    row = connection.execute(
        sa.text("SELECT id, version FROM rag_collections WHERE name = :name"), {"name": name}
    ).first()
    return (row[0], row[1]) if row else None


def _document(connection: Connection, key: int, document_id: str) -> Document | None:
    query = (
        "SELECT document, name, sha256, bytes, characters, passages, created FROM rag_documents "
        "WHERE document = :id AND collection = :key"
    )
    row = connection.execute(sa.text(query), {"id": document_id, "key": key}).first()
    return Document(*row) if row else None


def _insert_document(connection: Connection, key: int, document: Document) -> None:
    query = (
        "INSERT INTO rag_documents (document, collection, name, sha256, bytes, characters, passages, created) "
        "VALUES (:id, :key, :name, :sha256, :bytes, :characters, :passages, :created)"
    )
    values = {name: getattr(document, name) for name in Document.__slots__}
    connection.execute(sa.text(query), {**values, "key": key})


def _postings(key: int, passage_id: int, passage: NewPassage) -> Iterator[tuple[int, int, int, float]]:
    damping = K1 * (1 - B + B * len(passage.text) / PIVOT)
    for term, count in passage.terms.items():
        yield key, term, passage_id, count * (K1 + 1) / (count + damping)


def _frequencies(connection: Connection, key: int, terms: Sequence[int]) -> dict[int, int]:
    """In how many passages each term is."""
    query = "SELECT term, COUNT(*) FROM rag_postings WHERE collection = :key AND term IN :terms GROUP BY term"
    statement = sa.text(query).bindparams(sa.bindparam("terms", expanding=True))
    return {
        term: count
        for part in _parts(terms)
        for term, count in connection.execute(statement, {"key": key, "terms": part})
    }


def _rarity(count: int, passages: int) -> float:
    return log(1 + (passages - count + 0.5) / (count + 0.5))


def _scored(connection: Connection, key: int, weights: dict[int, float], most: int) -> list[tuple[int, float]]:
    rows = ", ".join(f"(CAST(:t{n} AS BIGINT), CAST(:w{n} AS DOUBLE PRECISION))" for n in range(len(weights)))
    query = (
        f"WITH asked (term, weight) AS (VALUES {rows}) "
        "SELECT p.passage, SUM(p.weight * asked.weight) AS score FROM asked "
        "JOIN rag_postings p ON p.collection = :key AND p.term = asked.term "
        "GROUP BY p.passage ORDER BY score DESC, p.passage LIMIT :most"
    )
    values: dict[str, float] = {"key": key, "most": most}
    for n, (term, weight) in enumerate(weights.items()):
        values |= {f"t{n}": term, f"w{n}": weight}
    return [(row[0], float(row[1])) for row in connection.execute(sa.text(query), values)]


def _parts(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), LARGEST_BATCH):
        yield values[start : start + LARGEST_BATCH]


def _no_document() -> NotFound:
    return NotFound("There is no such document. GET /api/v1/rag/documents lists those that there are.")
