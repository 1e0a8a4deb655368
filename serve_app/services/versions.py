"""Which version of a model is active: rows of the store, so that a switch is one write and every replica reads it."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from serve_app.errors import BadRequest, Conflict, ModelNotFound, Unavailable
from serve_app.policies.routing import Versions
from serve_app.policies.versions import Switch
from serve_app.services.store import Store

FOLLOW_S = 1.0

SWITCHES = sa.table(
    "switches",
    *(sa.column(name) for name in ("model", "active", "previous", "canary", "share", "changed_ms")),
)


@dataclass(frozen=True, slots=True)
class State:
    """One model's versions as people see them. `previous` is what a rollback would return to."""

    model: str
    versions: tuple[str, ...]
    active: str
    canary: str | None = None
    share: float = 0.0
    previous: str | None = None


class Registry:
    """The versions that the profile has, and which of them the store says are in force."""

    def __init__(self, store: Store, versions: Versions) -> None:
        self.store = store
        self.versions = versions

    async def switches(self) -> dict[str, Switch]:
        """What is in force, for the models that were ever switched."""
        return {state.model: Switch(state.active, state.canary, state.share) for state in await self.states()}

    async def states(self) -> list[State]:
        rows = await self.store.read(lambda connection: connection.execute(sa.select(SWITCHES)).mappings().all())
        switched = {row["model"]: row for row in rows}
        return [self._state(model, switched.get(model)) for model in self.versions]

    async def activate(self, model: str, version: str) -> State:
        """Give every caller this version from now on; the one before is remembered for a rollback."""
        self._require(model, version)
        before = await self._one(model)
        previous = before.active if before.active != version else before.previous
        return await self._set(State(model, before.versions, version, previous=previous))

    async def canary(self, model: str, version: str, share: float) -> State:
        """Give a share of the callers (0 to 1) this version; 0 ends the canary."""
        self._require(model, version)
        if not 0 <= share <= 1:
            raise BadRequest("The share of a canary is from 0 to 1.", param="share")
        before = await self._one(model)
        canary = version if share else None
        return await self._set(State(model, before.versions, before.active, canary, share, before.previous))

    async def rollback(self, model: str) -> State:
        """Return to the version that was active before the last switch, and end a canary."""
        self._require(model)
        before = await self._one(model)
        if before.canary:
            return await self._set(State(model, before.versions, before.active, previous=before.previous))
        if before.previous not in before.versions:
            raise Conflict(f"{model} was not switched, so there is nothing to return to.", param="model")
        return await self._set(State(model, before.versions, before.previous, previous=before.active))

    async def _one(self, model: str) -> State:
        return next(state for state in await self.states() if state.model == model)

    async def _set(self, state: State) -> State:
        await self.store.write(lambda connection: _upsert(connection, state))
        return state

    def _require(self, model: str, version: str | None = None) -> None:
        if model not in self.versions:
            raise ModelNotFound(f"No such model; there are {', '.join(self.versions)}.", param="model")
        if version is not None and version not in self.versions[model]:
            raise BadRequest(f"{model} has the versions {', '.join(self.versions[model])}.", param="version")

    def _state(self, model: str, row: sa.RowMapping | None) -> State:
        versions = tuple(self.versions[model])
        if row is None:
            return State(model, versions, versions[0])
        return State(model, versions, row["active"], row["canary"], row["share"], row["previous"])


async def follow(registry: Registry, switches: dict[str, Switch]) -> None:
    """Keep `switches` true to the store, for ever; while that is away, the last view stays in force."""
    while True:
        with contextlib.suppress(Unavailable):
            switches.update(await registry.switches())
        await asyncio.sleep(FOLLOW_S)


def _upsert(connection: Connection, state: State) -> None:
    values = {
        "active": state.active,
        "previous": state.previous,
        "canary": state.canary,
        "share": state.share,
        "changed_ms": int(time.time() * 1000),
    }
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(SWITCHES).values(model=state.model, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["model"], set_=values))
