"""The ledger: one row per run, reserved before it and settled after it, and the accounts that budgets are kept in.

A row is `reserved` (its run may be on its way), `settled` (what it used and cost is known), `released` (it never ran)
or `lost` (the process that held it is gone; nobody knows what was used, so nothing is charged). Only the holds of
living processes stay open: each has a lease that it renews, and every process clears up after the dead. A settlement
that comes after all, from a process that had only been frozen, still counts.
"""

import asyncio
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from serve_app.errors import InsufficientQuota
from serve_app.services.store import Statement, Store, Unsure

LEASE_MS = 30_000
RENEWAL_S = 10.0
SWEPT_AT_ONCE = 500
ACCOUNTS_LOCK = 0x6D6F6E79  # "mony": any number that every replica uses

State = Literal["reserved", "settled", "released", "lost"]
Group = Literal["model", "tenant", "user", "zone", "engine", "key", "node_class", "day"]


@dataclass(frozen=True)
class Row:
    """A row of the ledger; the fields are its columns. `id` is ours: a client may use its request's id twice.

    Times are milliseconds since the epoch, money is nano-dollars, `engine_us` is microseconds in an engine's slot,
    `audio_ms` milliseconds of sound that were heard or spoken.
    `outcome` is `ok`, `cache_hit`, `cancelled`, `lost` or the code of an error.
    """

    id: str
    request_id: str
    created_ms: int
    tenant: str
    door: str
    kind: str
    model: str
    version: str
    engine: str
    node_class: str
    account: str | None = None
    key_id: str | None = None
    user_id: str | None = None
    zone: str | None = None
    owner: str = ""
    state: State = "reserved"
    outcome: str | None = None
    settled_ms: int | None = None
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_us: int = 0
    audio_ms: int = 0
    frames: int = 0
    characters: int = 0
    reserved_nano: int = 0
    cost_nano: int = 0
    saved_nano: int = 0


_COLUMNS = [field.name for field in fields(Row)]
_KNOWN_BEFORE = {"id", "request_id", "created_ms", "tenant", "door", "kind", "account", "key_id", "user_id", "zone"}
_AT_THE_END = [name for name in _COLUMNS if name not in _KNOWN_BEFORE | {"owner", "reserved_nano"}]
LEDGER = sa.table("ledger", *map(sa.column, _COLUMNS))
ACCOUNTS = sa.table("accounts", *map(sa.column, ("id", "limit_nano", "reserved_nano", "spent_nano")))
OWNERS = sa.table("owners", sa.column("id"), sa.column("seen_ms"))

_DAY_MS = 86_400_000
_GROUPS: dict[Group, Any] = {
    "model": LEDGER.c.model,
    "tenant": LEDGER.c.tenant,
    "user": LEDGER.c.user_id,
    "zone": LEDGER.c.zone,
    "engine": LEDGER.c.engine,
    "key": LEDGER.c.key_id,
    "node_class": LEDGER.c.node_class,
    "day": LEDGER.c.created_ms - LEDGER.c.created_ms % _DAY_MS,
}


@dataclass(frozen=True, slots=True)
class Costs:
    """What the requests of one group used and cost. `group` is `None` for those that named no such thing."""

    group: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    engine_us: int
    audio_ms: int
    frames: int
    characters: int
    cost_nano: int
    saved_nano: int


class Ledger:
    """Keeps the rows of one process. `required` says whether runs are refused while the store is away."""

    def __init__(self, store: Store, required: bool = True) -> None:
        self.store = store
        self.required = required
        self.owner = uuid.uuid4().hex
        self._statements = _Statements(store.dialect)
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Renew this process's lease, and clear up after dead ones, from now on."""
        self._keeping = asyncio.create_task(self._keep())

    async def reserve(self, row: Row, limit_nano: int | None = None) -> None:
        """Commit `row` and, if it has an account, hold `row.reserved_nano` of what is left below `limit_nano` there.

        Without an account it is a light write: what a power failure could take is a run that it has ended as well.

        Raises `InsufficientQuota` if that is too little, and `Unavailable`.
        """
        if row.account is None or limit_nano is None:
            future: Future[Any] = self.store.submit(self._statements.begin(row), light=True)
        else:
            future = self.store.submit(partial(self._statements.reserve, row, limit_nano))
        try:
            held = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(partial(self._undo, row))
            raise
        except Unsure:
            self._release(row)
            raise
        if held is False:
            raise InsufficientQuota("Your budget is used up, or held by requests on their way. Raise it to go on.")

    def settle(self, row: Row) -> None:
        """Have the row of a run that has ended written; counts once, however often it is called."""
        if row.account is None:
            self.store.post(self._statements.finish(row))
        else:
            self.store.post(partial(self._statements.settle, row))

    async def costs(
        self, by: Group, since_ms: int = 0, until_ms: int | None = None, tenant: str | None = None
    ) -> list[Costs]:
        """What was spent on requests that began in a period, the dearest group first; of one tenant, or of all."""
        return await self.store.read(partial(_costs, by, since_ms, until_ms, tenant))

    async def close(self) -> None:
        """Give the lease back, after everything that was settled; closing the store then writes it all."""
        if self._keeping is not None:
            self._keeping.cancel()
        self.store.post(partial(self._statements.forget, self.owner))

    async def _keep(self) -> None:
        while True:
            self.store.post(partial(self._statements.renew, self.owner, now_ms()))
            self.store.post(partial(self._statements.sweep, now_ms()))
            await asyncio.sleep(RENEWAL_S)

    def _undo(self, row: Row, future: Future[bool]) -> None:
        """The caller left while its reservation was being written: nothing has run."""
        if not future.cancelled() and (future.exception() or future.result() is not False):
            self._release(row)

    def _release(self, row: Row) -> None:
        self.store.post(partial(self._statements.end, row.id, "released", "cancelled", now_ms()))


class _Statements:
    """The ledger's writes: functions of a connection that may be repeated."""

    def __init__(self, dialect: str) -> None:
        insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
        self._serial = dialect == "postgresql"
        self._insert = insert(LEDGER)
        self._finish = self._insert.on_conflict_do_update(
            index_elements=["id"],
            set_={name: self._insert.excluded[name] for name in _AT_THE_END},
            where=sa.or_(LEDGER.c.state == "reserved", LEDGER.c.state == "lost"),  # no IN: executemany
        )
        self._settle = self._finish.returning(LEDGER.c.reserved_nano)
        account = insert(ACCOUNTS)
        new = account.excluded
        self._hold = account.on_conflict_do_update(
            index_elements=["id"],
            set_={"reserved_nano": ACCOUNTS.c.reserved_nano + new.reserved_nano, "limit_nano": new.limit_nano},
            where=ACCOUNTS.c.spent_nano + ACCOUNTS.c.reserved_nano + new.reserved_nano <= new.limit_nano,
        ).returning(ACCOUNTS.c.id)
        self._free_held = (
            sa.update(ACCOUNTS)
            .where(ACCOUNTS.c.id == sa.bindparam("account"))
            .values(
                reserved_nano=ACCOUNTS.c.reserved_nano - sa.bindparam("held"),
                spent_nano=ACCOUNTS.c.spent_nano + sa.bindparam("spent"),
            )
        )
        owner = insert(OWNERS)
        self._renew = owner.on_conflict_do_update(index_elements=["id"], set_={"seen_ms": owner.excluded.seen_ms})

    def begin(self, row: Row) -> Statement:
        """The row of a run that no budget bounds."""
        return Statement(self._insert, vars(row))

    def finish(self, row: Row) -> Statement:
        """Its end."""
        return Statement(self._finish, vars(row))

    def reserve(self, row: Row, limit_nano: int, connection: Connection) -> bool:
        """The row of a run, and its hold on the budget; `False` if that is too small."""
        self._lock_accounts(connection)
        if not self._held(connection, row, limit_nano):
            return False
        connection.execute(self._insert, vars(row))
        return True

    def settle(self, row: Row, connection: Connection) -> None:
        """The end of a run, and of its hold."""
        held = connection.execute(self._settle, vars(row)).scalar()
        if held is not None:
            self._free(connection, row.account, held, row.cost_nano)

    def end(self, row_id: str, state: State, outcome: str, at_ms: int, connection: Connection) -> None:
        """Close an open row without a charge."""
        ended = (
            sa.update(LEDGER)
            .where(LEDGER.c.id == row_id, LEDGER.c.state == "reserved")
            .values(state=state, outcome=outcome, settled_ms=at_ms)
            .returning(LEDGER.c.account, LEDGER.c.reserved_nano)
        )
        for account, held in connection.execute(ended).all():
            connection.execute(sa.update(LEDGER).where(LEDGER.c.id == row_id).values(reserved_nano=0))
            self._free(connection, account, held, 0)

    def renew(self, owner: str, at_ms: int, connection: Connection) -> None:
        connection.execute(self._renew, {"id": owner, "seen_ms": at_ms})

    def forget(self, owner: str, connection: Connection) -> None:
        connection.execute(sa.delete(OWNERS).where(OWNERS.c.id == owner))

    def sweep(self, at_ms: int, connection: Connection) -> None:
        """Close the open rows of processes whose lease has run out."""
        seen = sa.func.coalesce(OWNERS.c.seen_ms, LEDGER.c.created_ms)
        orphans = (
            sa.select(LEDGER.c.id)
            .outerjoin_from(LEDGER, OWNERS, LEDGER.c.owner == OWNERS.c.id)
            .where(LEDGER.c.state == "reserved", seen < at_ms - LEASE_MS)
            .limit(SWEPT_AT_ONCE)
        )
        for row_id in connection.scalars(orphans).all():
            self.end(row_id, "lost", "lost", at_ms, connection)
        connection.execute(sa.delete(OWNERS).where(OWNERS.c.seen_ms < at_ms - 10 * LEASE_MS))

    def _held(self, connection: Connection, row: Row, limit_nano: int) -> bool:
        new = {"id": row.account, "limit_nano": limit_nano, "reserved_nano": row.reserved_nano, "spent_nano": 0}
        return row.reserved_nano <= limit_nano and connection.scalar(self._hold, new) is not None

    def _free(self, connection: Connection, account: str | None, held: int, spent: int) -> None:
        """Turn a hold into what was really spent."""
        if account is None:
            return
        self._lock_accounts(connection)
        connection.execute(self._free_held, {"account": account, "held": held, "spent": spent})

    def _lock_accounts(self, connection: Connection) -> None:
        """Groups of several replicas touch the same accounts in different orders; SQLite has one writer anyway."""
        if self._serial:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ACCOUNTS_LOCK})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _costs(by: Group, since_ms: int, until_ms: int | None, tenant: str | None, connection: Connection) -> list[Costs]:
    group = _GROUPS[by].label("grouped")
    names = [field.name for field in fields(Costs)][2:]
    query = (
        sa.select(group, sa.func.count(), *(sa.func.sum(LEDGER.c[name]) for name in names))
        .where(LEDGER.c.state.in_(("settled", "lost")), LEDGER.c.created_ms >= since_ms)
        .group_by(sa.text("grouped"))
    )
    if until_ms is not None:
        query = query.where(LEDGER.c.created_ms < until_ms)
    if tenant is not None:
        query = query.where(LEDGER.c.tenant == tenant)
    found = [Costs(_named(by, name), *map(int, sums)) for name, *sums in connection.execute(query)]
    return sorted(found, key=lambda costs: (-costs.cost_nano, costs.group or ""))


def _named(by: Group, value: Any) -> str | None:
    if by != "day" or value is None:
        return value  # type: ignore[no-any-return]
    return time.strftime("%Y-%m-%d", time.gmtime(int(value) / 1000))
