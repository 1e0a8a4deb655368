"""Rows to keep, and what a store has kept."""

import uuid
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from serve_app.services.ledger import ACCOUNTS, LEDGER, Ledger, Row, now_ms
from serve_app.services.store import Store


def row(ledger: Ledger, **fields: Any) -> Row:
    """A reservation of this ledger's."""
    known = {"tenant": "t", "door": "http", "kind": "chat", "model": "m", "version": "1", "engine": "e"}
    fixed = {"id": uuid.uuid4().hex, "request_id": "r", "created_ms": now_ms(), "node_class": "onprem"}
    return Row(**{**known, **fixed, "owner": ledger.owner, **fields})


def settled(row: Row, **fields: Any) -> Row:
    return replace(row, **{"state": "settled", "outcome": "ok", "settled_ms": now_ms(), **fields})


async def rows(store: Store) -> list[dict[str, Any]]:
    """Every row, the oldest first, once what was posted before is done."""
    await store.write(lambda _: None)
    query = sa.select(LEDGER).order_by(LEDGER.c.created_ms)
    return [dict(found) for found in await store.read(lambda c: c.execute(query).mappings().all())]


async def account(store: Store, name: str) -> tuple[int, int]:
    """What an account has reserved and spent."""
    await store.write(lambda _: None)
    query = sa.select(ACCOUNTS.c.reserved_nano, ACCOUNTS.c.spent_nano).where(ACCOUNTS.c.id == name)
    reserved, spent = await store.read(lambda c: c.execute(query).one())
    return int(reserved), int(spent)
