"""Where small values are kept for a while, and may be lost at any time: in this process, or in Redis."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

PREFIX = b"megacity:"
TIMEOUT_S = 0.1  # a cache that is slower than this is slower than many answers
REST_S = 1.0
"""For so long Redis is left alone after it has failed: its absence costs one timeout, and not one a request."""

ENTRY_OVERHEAD = 256  # bytes that Python needs for an entry beside its key and value; measured, rounded up


class KV(Protocol):
    """Keeps bytes under a key. Nothing here raises: what cannot be had is `None`, what cannot be kept is dropped."""

    async def get(self, key: bytes) -> bytes | None: ...

    async def put(self, key: bytes, value: bytes, ttl_s: int) -> None: ...

    async def close(self) -> None: ...


class Memory:
    """At most `max_bytes` in this process; what has not been used for longest goes first."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    async def get(self, key: bytes) -> bytes | None:
        value, until = self._entries.get(key, (None, 0.0))
        if value is not None and until <= self._clock():
            self._drop(key)
            return None
        if value is not None:
            self._entries.move_to_end(key)
        return value

    async def put(self, key: bytes, value: bytes, ttl_s: int) -> None:
        self._drop(key)
        size = _size(key, value)
        if size > self._max_bytes:
            return
        while self.bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = value, self._clock() + ttl_s
        self.bytes += size

    async def close(self) -> None:
        self._entries.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        if key in self._entries:
            value, _ = self._entries.pop(key)
            self.bytes -= _size(key, value)


class Shared:
    """In Redis, for all ingress processes together. While Redis is away, nothing is found and nothing is kept.

    Every value names its key, which is checked: a connection that got out of step would otherwise hand out an answer to
    somebody else's question.
    """

    def __init__(self, url: str, fault: Callable[[str, BaseException], None], timeout_s: float = TIMEOUT_S) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=None)
        self._timeout_s = timeout_s
        self._fault = fault
        self._rests_until = 0.0

    async def get(self, key: bytes) -> bytes | None:
        if self._resting():
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._redis.get(PREFIX + key)
        except (RedisError, OSError) as error:
            self._rest(error)
            return None
        return found[len(key) :] if isinstance(found, bytes) and found.startswith(key) else None

    async def put(self, key: bytes, value: bytes, ttl_s: int) -> None:
        if self._resting():
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.set(PREFIX + key, key + value, ex=ttl_s)
        except (RedisError, OSError) as error:
            self._rest(error)

    async def close(self) -> None:
        await self._redis.aclose()

    def _resting(self) -> bool:
        return time.monotonic() < self._rests_until

    def _rest(self, error: BaseException) -> None:
        self._rests_until = time.monotonic() + REST_S
        self._fault("cache_away", error)


def open_kv(url: str | None, max_mb: int, fault: Callable[[str, BaseException], None]) -> KV:
    """Redis at `url`, or without one this process."""
    return Shared(url, fault) if url else Memory(max_mb * 1024 * 1024)


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD
