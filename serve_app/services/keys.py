"""API keys: made, found, rotated and revoked. Stored of a key's secret are its HMAC-SHA-256 and its first letters.

A secret is `sk-mc-` and 256 random bits, so a plain keyed hash is enough: there is nothing to guess, and a stolen table
is of no use without the server's own secret. Finding a key is one indexed look-up of its hash, whatever was sent; the
time it takes depends on a hash that the sender cannot know.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from serve_app.errors import ConfigError, NotFound
from serve_app.services.store import Store
from serve_app.types import Priority

PREFIX = "sk-mc-"
WELL_FORMED = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
SHOWN = len(PREFIX) + 4  # letters of a secret that are kept, so that people can tell their keys apart
SHORTEST_SECRET = 32  # characters of the server's own secret
REMEMBERED_S = 3.0  # with this a revocation is in force within 5 s on every replica
REMEMBERED = 4096

TABLE = sa.Table(
    "keys",
    sa.MetaData(),
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("tier", sa.String(16), nullable=False),
    sa.Column("zones", sa.JSON, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("tokens_per_minute", sa.Integer),
    sa.Column("budget_nano_usd", sa.BigInteger),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double),
    sa.Column("revoked", sa.Double),
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows. `zones` empty means every zone; `expires` is in seconds since the epoch."""

    tenant: str
    name: str = ""
    tier: Priority = Priority.STANDARD
    zones: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("inference",)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_nano_usd: int | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Times are in seconds since the epoch."""

    id: str
    prefix: str
    hash: str = field(repr=False)
    grant: Grant
    created: float
    revoked: float | None = None

    def live(self, now: float) -> bool:
        ends = [end for end in (self.grant.expires, self.revoked) if end is not None]
        return all(now < end for end in ends)


class Keys:
    """The keys of a store. `secret` is the server's own; `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._secret = secret
        self._clock = clock

    async def create(self, grant: Grant) -> tuple[Key, str]:
        """A new key and its secret, which nobody can be told again."""
        key, secret = self._made(grant)
        await self._store.write(lambda connection: _insert(connection, key))
        return key, secret

    async def list(self) -> list[Key]:
        """Every key, the newest first, also those that are no longer in force."""
        query = sa.select(TABLE).order_by(TABLE.c.created.desc())
        return [_key(row) for row in await self._store.read(lambda connection: connection.execute(query).all())]

    async def rotate(self, key_id: str, overlap_s: float = 0.0) -> tuple[Key, str]:
        """A key in place of this one, which stays in force for `overlap_s` more seconds. Raises `NotFound`."""
        now = self._clock()

        def work(connection: Connection) -> tuple[Key, str]:
            old = _live(connection, key_id, now)
            key, secret = self._made(old.grant)
            _insert(connection, key)
            _end(connection, key_id, min(now + overlap_s, old.revoked or math.inf))
            return key, secret

        return await self._store.write(work)

    async def revoke(self, key_id: str) -> Key:
        """The key, no longer in force. Raises `NotFound`."""
        now = self._clock()

        def work(connection: Connection) -> Key:
            key = _live(connection, key_id, now)
            _end(connection, key_id, now)
            return replace(key, revoked=now)

        return await self._store.write(work)

    async def find(self, secret: str) -> Key | None:
        """The key with this secret, in force or not."""
        if not WELL_FORMED.fullmatch(secret):
            return None
        digest = self.digest(secret)
        query = sa.select(TABLE).where(TABLE.c.hash == digest)
        row = await self._store.read(lambda connection: connection.execute(query).one_or_none())
        return _key(row) if row is not None and hmac.compare_digest(row.hash, digest) else None

    async def any_live(self) -> bool:
        return any(key.live(self._clock()) for key in await self.list())

    def digest(self, secret: str) -> str:
        return hmac.digest(self._secret, secret.encode(), hashlib.sha256).hex()

    def _made(self, grant: Grant) -> tuple[Key, str]:
        secret = PREFIX + secrets.token_urlsafe(32)
        key_id = f"key_{secrets.token_hex(8)}"
        return Key(key_id, secret[:SHOWN], self.digest(secret), grant, self._clock()), secret


@asynccontextmanager
async def opened(url: str, home: Path) -> AsyncIterator[Keys]:
    """The keys of the store at `url`, for as long as this block lasts."""
    store = Store(url)
    try:
        yield Keys(store, server_secret(home))
    finally:
        await store.close()


class Recent:
    """Keys as they were found within the last three seconds, also those that were not, so that few ask the store.

    Found and unknown ones are kept apart: a flood of wrong keys pushes out no right one.
    """

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._found: OrderedDict[str, tuple[float, Key | None]] = OrderedDict()
        self._unknown: OrderedDict[str, tuple[float, Key | None]] = OrderedDict()

    async def find(self, secret: str) -> Key | None:
        """The key with this secret, if it is in force. Raises `Unavailable`: without the store nobody is let in."""
        if not WELL_FORMED.fullmatch(secret):
            return None
        digest, now = self._keys.digest(secret), self._clock()
        kept = self._found.get(digest) or self._unknown.get(digest)
        if kept is None or not now - REMEMBERED_S <= kept[0] <= now:
            kept = now, await self._keys.find(secret)
            self._remember(digest, kept)
        key = kept[1]
        return key if key is not None and key.live(self._clock()) else None

    def _remember(self, digest: str, kept: tuple[float, Key | None]) -> None:
        there, elsewhere = (self._found, self._unknown) if kept[1] else (self._unknown, self._found)
        elsewhere.pop(digest, None)
        there[digest] = kept
        there.move_to_end(digest)
        if len(there) > REMEMBERED:
            there.popitem(last=False)


def server_secret(home: Path, environ: Mapping[str, str] = os.environ) -> bytes:
    """The secret that keys are hashed with: `MEGACITY_KEY_SECRET`, or `key-secret` in the home folder, made if missing.

    Every node must have the same one. Raises `ConfigError` if it is short, or a file that others can read.
    """
    given = environ.get("MEGACITY_KEY_SECRET")
    secret = given.encode() if given is not None else _secret_of(home / "key-secret")
    if len(secret) < SHORTEST_SECRET:
        raise ConfigError(
            f"the key secret is shorter than {SHORTEST_SECRET} characters; make one with `openssl rand -hex 32`"
        )
    return secret


def private(path: Path) -> bool:
    """Whether only its owner can read or write a file: its mode is 0600 or 0400."""
    return stat.S_IMODE(path.stat().st_mode) in (0o600, 0o400)


def _secret_of(path: Path) -> bytes:
    if not path.exists():
        _make_secret(path)
    if not private(path):
        raise ConfigError(f"{path} can be read by others; run `chmod 600 {path}`, and rotate the keys if they did")
    return path.read_bytes().strip()


def _make_secret(path: Path) -> None:
    """Written aside and linked, so that of two processes that start at once both end with the same whole file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()


def _insert(connection: Connection, key: Key) -> None:
    grant = key.grant
    values = {name: getattr(grant, name) for name in Grant.__dataclass_fields__}
    values |= {"tier": grant.tier.name.lower(), "zones": list(grant.zones), "scopes": list(grant.scopes)}
    values |= {"id": key.id, "prefix": key.prefix, "hash": key.hash, "created": key.created}
    connection.execute(sa.insert(TABLE).values(**values))


def _live(connection: Connection, key_id: str, now: float) -> Key:
    row = connection.execute(sa.select(TABLE).where(TABLE.c.id == key_id)).one_or_none()
    if row is None or not _key(row).live(now):
        raise NotFound("There is no such key in force. `megacity keys list` shows those that there are.", param="id")
    return _key(row)


def _end(connection: Connection, key_id: str, at: float) -> None:
    connection.execute(sa.update(TABLE).where(TABLE.c.id == key_id).values(revoked=at))


def _key(row: Row[Any]) -> Key:
    grant = Grant(
        tenant=row.tenant,
        name=row.name,
        tier=Priority[row.tier.upper()],
        zones=tuple(row.zones),
        scopes=tuple(row.scopes),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        budget_nano_usd=row.budget_nano_usd,
        expires=row.expires,
    )
    return Key(row.id, row.prefix, row.hash, grant, row.created, row.revoked)
