"""Dances that tenants keep to compare others with: where the dancer's joints were, and no picture of anybody."""

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serve_app.errors import Conflict, NotFound, Unprocessable
from serve_app.services.store import Store
from serve_app.types import Landmarks

MOST = 1_000  # that a tenant may keep
SHORTEST_S = 1.0  # shorter ones cannot be compared
CARD = ("id", "name", "frames", "duration_s", "created_ms")

TABLE = sa.Table(
    "dance_references",
    sa.MetaData(),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("duration_s", sa.Double, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("landmarks", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Reference:
    id: str
    name: str
    frames: int
    duration_s: float
    created_ms: int


class References:
    """Nobody but their tenant can see that they exist."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, tenant: str, name: str, landmarks: bytes) -> Reference:
        """Raises Unprocessable for what is too short to be compared, and Conflict if the tenant keeps too many."""
        header = _header(landmarks)
        if header["duration_s"] < SHORTEST_S:
            raise Unprocessable(f"A reference should be a video of at least {SHORTEST_S:g} s.", param="video")
        made = Reference(
            id=f"dance_{secrets.token_hex(16)}",
            name=name,
            frames=header["frames"],
            duration_s=header["duration_s"],
            created_ms=int(time.time() * 1000),
        )

        def work(connection: Connection) -> None:
            kept = sa.select(sa.func.count()).select_from(TABLE).where(TABLE.c.tenant == tenant)
            if (connection.scalar(kept) or 0) >= MOST:
                raise Conflict(f"You keep {MOST} references already; delete one that you no longer need.")
            card = {field: getattr(made, field) for field in CARD}
            connection.execute(TABLE.insert().values(**card, tenant=tenant, landmarks=landmarks))

        await self._store.write(work)
        return made

    async def find(self, tenant: str, reference_id: str) -> Landmarks:
        """Raises NotFound, also for one that is another tenant's."""
        query = sa.select(TABLE.c.landmarks).where(TABLE.c.id == reference_id, TABLE.c.tenant == tenant)
        landmarks: Any = await self._store.read(lambda connection: connection.scalar(query))
        if landmarks is None:
            raise _unknown()
        return Landmarks(bytes(landmarks))

    async def list(self, tenant: str) -> list[Reference]:
        """The newest first."""
        query = sa.select(*(TABLE.c[field] for field in CARD)).where(TABLE.c.tenant == tenant)
        newest = query.order_by(TABLE.c.created_ms.desc(), TABLE.c.id)
        rows = await self._store.read(lambda connection: connection.execute(newest).mappings().all())
        return [Reference(**row) for row in rows]

    async def delete(self, tenant: str, reference_id: str) -> None:
        """Raises NotFound, as `find` does."""
        statement = TABLE.delete().where(TABLE.c.id == reference_id, TABLE.c.tenant == tenant)
        if not await self._store.write(lambda connection: connection.execute(statement).rowcount):
            raise _unknown()


def _header(landmarks: bytes) -> dict[str, Any]:
    """What a recorded movement says about itself: 8 bytes of a mark, 4 of the header's length, then JSON."""
    length = int.from_bytes(landmarks[8:12], "little")
    header: dict[str, Any] = json.loads(landmarks[12 : 12 + length])
    return header


def _unknown() -> NotFound:
    return NotFound("There is no such reference. GET /api/v1/kzone/dance/references lists yours.", param="reference_id")
