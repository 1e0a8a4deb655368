"""The SQL store: one code path for SQLite and PostgreSQL, one writer thread per process, group commit.

A write is a function of a connection. Writes that wait are taken together into one transaction, so that the commit,
which is the dear part, is paid once for all of them, and those that are the same `Statement` cross the driver at once.
A write must therefore be repeatable, and must not count on others that wait with it being done before it: if one of a
group fails, the group is rolled back and each is done alone. A store that is away (no server, a full disk) refuses with
`Unavailable` and comes back by itself.

What is committed survives the end of any process of ours. Only a *light* write may be lost if the machine that keeps
the store fails in the same moment; it does not wait for the disk, nor for those that do.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from serve_app.errors import Unavailable
from serve_app.services import migrations

T = TypeVar("T")
Work = Callable[[Connection], T]
Fault = Callable[[str, BaseException], None]

LARGEST_GROUP = 256
LARGEST_BACKLOG = 100_000  # posted writes that wait for a store that is away; about 1 KiB each
LINGER_S = 0.02  # what was posted may wait so long for others to share its commit
RETRY_S = 0.5
PATIENCE_S = 5  # for another process's transaction, a connection or a lock
THE_WRITES_OWN = (IntegrityError, DataError, ProgrammingError)  # other errors of the driver are the store's
CONFLICTS = ("40001", "40P01")  # SQL states of transactions that got in each other's way: alone they will do
AWAY = "The store that keeps accounts is away, so nothing can be run. Please try again."


@dataclass(frozen=True, slots=True)
class Statement:
    """A write that returns nothing: one statement with its values."""

    sql: sa.Executable
    values: Mapping[str, Any]

    def __call__(self, connection: Connection) -> None:
        connection.execute(self.sql, self.values)


class Unsure(Unavailable):
    """The store went away in the middle of a commit: it may have been done or not."""


@dataclass(frozen=True, slots=True)
class _Write:
    work: Work[Any]
    answer: Future[Any] | None  # a posted write has none
    light: bool = False


class Store:
    """`url` is an SQLAlchemy URL: `sqlite:///path` or `postgresql+psycopg://…`.

    `fault` is told of every failure by name. The database is opened, and brought up to date, when it is first needed.
    """

    def __init__(self, url: str, fault: Fault = lambda *_: None) -> None:
        self.url = sa.make_url(url)
        self._fault = fault
        self._waiting: deque[_Write] = deque()
        self._light: deque[_Write] = deque()
        self._since = 0.0  # when the first of those that wait came
        self._stirred = threading.Condition()
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._asked = self._closing = self._given_up = False  # asked: somebody waits for an answer
        self._writer = threading.Thread(target=self._run, name="store", daemon=True)
        self._writer.start()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.url.get_backend_name()

    async def write(self, work: Work[T]) -> T:
        """What `work` returned, once that is committed. Raises what it raised, or `Unavailable`."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Work[T], light: bool = False) -> Future[T]:
        """As `write`, for those who must learn the end even if they are cancelled while they wait."""
        answer: Future[T] = Future()
        if self._closing:
            answer.set_exception(Unavailable(AWAY))
        else:
            self._add(_Write(work, answer, light))
        return answer

    def post(self, work: Work[Any]) -> None:
        """Have `work` done without waiting, however long the store may be away."""
        self._add(_Write(work, None))

    async def read(self, work: Work[T]) -> T:
        """What `work` returns; it must only read. Raises `Unavailable`."""
        return await asyncio.to_thread(self._read, work)

    async def close(self, grace_s: float = 5.0) -> None:
        """Accept nothing new and do what waits; what is not done in `grace_s` seconds is given up."""
        with self._stirred:
            self._closing = True
            self._stirred.notify()
        await asyncio.to_thread(self._writer.join, grace_s)
        self._given_up = True
        if self._engine is not None:
            self._engine.dispose()

    def _read(self, work: Work[T]) -> T:
        try:
            with self._opened().connect() as connection:
                return work(connection.execution_options(isolation_level="AUTOCOMMIT"))
        except (DBAPIError, PoolTimeout, OSError, migrations.Failed) as error:
            if not _is_away(error):
                raise
            self._fault("store_away", error)
            raise Unavailable(AWAY) from error

    def _add(self, write: _Write) -> None:
        with self._stirred:
            if write.light:
                self._light.append(write)
            else:
                self._since = self._since if self._waiting else time.monotonic()
                self._waiting.append(write)
                self._asked = self._asked or write.answer is not None
            if write.light or self._asked or len(self._waiting) == 1:
                self._stirred.notify()

    def _run(self) -> None:
        while (group := self._take()) and not self._given_up:
            wanted = [write for write in group if write.answer is None or write.answer.set_running_or_notify_cancel()]
            if wanted and not self._commit(wanted):
                time.sleep(RETRY_S)

    def _take(self) -> list[_Write]:
        """The writes that have waited longest, as soon as there are any; none at the end.

        Where nobody waits for an answer, others may still come to share the commit; light ones go ahead meanwhile.
        """
        with self._stirred:
            self._stirred.wait_for(lambda: self._light or self._waiting or self._closing)
            self._stirred.wait_for(lambda: self._light or self._asked or self._closing, self._lingers_s())
            due = not self._light or self._asked or self._closing or not self._lingers_s()
            ready = (self._light, self._waiting) if due else (self._light,)
            group = [line.popleft() for line in ready for _ in range(min(len(line), LARGEST_GROUP))]
            self._asked = any(write.answer for write in self._waiting)
        return group

    def _lingers_s(self) -> float:
        """How long those that wait may still wait for others."""
        return max(0.0, self._since + LINGER_S - time.monotonic()) if self._waiting else LINGER_S

    def _commit(self, group: list[_Write]) -> bool:
        """Do the writes in one transaction and answer them. False if the store is away."""
        sent = False
        try:
            light = all(write.light for write in group)
            with (
                self._opened().connect() as connection,
                connection.execution_options(light=light).begin() as transaction,
            ):
                results = _done(connection, [write.work for write in group])
                sent = True
                transaction.commit()
        except Exception as error:  # noqa: BLE001 - whatever a write raises is its caller's, and not the other writes'
            if not _is_away(error):
                return self._commit_singly(group, error)
            self._postpone(group, error, sent)
            return False
        for write, result in zip(group, results, strict=True):
            if write.answer is not None:
                write.answer.set_result(result)
        return True

    def _commit_singly(self, group: list[_Write], error: Exception) -> bool:
        """Find the write that `error` came from: it alone fails."""
        if len(group) > 1:
            took = [self._commit([write]) for write in group]
            return all(took)
        if group[0].answer is not None:
            group[0].answer.set_exception(error)
        else:
            self._fault("write_given_up", error)
        return True

    def _postpone(self, group: list[_Write], error: Exception, sent: bool) -> None:
        """Refuse everybody who waits for an answer; what was posted stays in line."""
        self._fault("store_away", error)
        refusal = Unsure if sent and self.dialect != "sqlite" else Unavailable  # SQLite rolls a failed commit back
        _refuse(group, refusal)
        with self._stirred:
            others = (*self._light, *self._waiting)
            asked = [write for write in others if write.answer and write.answer.set_running_or_notify_cancel()]
            posted = [write for write in (*group, *self._waiting) if write.answer is None]
            self._waiting = deque(posted[:LARGEST_BACKLOG])
            self._light.clear()
            self._asked = False
        _refuse(asked, Unavailable)
        if len(posted) > LARGEST_BACKLOG:
            self._fault("writes_given_up", error)

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = _engine(self.url)
                migrations.bring_up(engine)
                self._engine = engine
            return self._engine


def _done(connection: Connection, works: Sequence[Work[Any]]) -> list[Any]:
    """What each of them returned."""
    alike: dict[sa.Executable, list[Mapping[str, Any]]] = {}
    for work in works:
        if isinstance(work, Statement):
            alike.setdefault(work.sql, []).append(work.values)
    for sql, values in alike.items():
        connection.execute(sql, values)
    return [None if isinstance(work, Statement) else work(connection) for work in works]


def _engine(url: sa.URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        options = f"-c lock_timeout={PATIENCE_S}s -c idle_in_transaction_session_timeout={PATIENCE_S}s"
        arguments = {"connect_timeout": PATIENCE_S, "options": options}
        engine = sa.create_engine(url, pool_pre_ping=True, pool_timeout=PATIENCE_S, connect_args=arguments)
        sa.event.listen(engine, "begin", _begin_postgresql)
        return engine
    if url.database:
        Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": PATIENCE_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """The driver would begin transactions by itself, and too late for `BEGIN IMMEDIATE`."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: one that is asked for in mid-transaction cannot be waited for."""
    options = connection.get_execution_options()
    if options.get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if options.get('light') else 'FULL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("light"):
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")


def _refuse(group: list[_Write], refusal: type[Unavailable]) -> None:
    for write in group:
        if write.answer is not None:
            write.answer.set_exception(refusal(AWAY))


def _is_away(error: Exception) -> bool:
    """Whether the store failed, and not the write."""
    if isinstance(error, DBAPIError):
        again = getattr(error.orig, "sqlstate", None) in CONFLICTS
        return not again and not isinstance(error, THE_WRITES_OWN)
    return isinstance(error, PoolTimeout | OSError | migrations.Failed)
