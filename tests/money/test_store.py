"""The store: group commit, failures that stay with whoever caused them, and coming back by itself."""

import asyncio
import resource
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from serve_app.errors import Unavailable
from serve_app.services.ledger import Ledger, Row
from serve_app.services.store import Store

COUNT = sa.text("SELECT count(*) FROM owners")


def insert(name: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(sa.text("INSERT INTO owners VALUES (:id, 1)"), {"id": name})

    return work


async def count(store: Store) -> int:
    return int(await store.read(lambda connection: connection.scalar(COUNT)) or 0)


async def test_a_write_is_committed_when_it_is_answered(store: Store) -> None:
    await store.write(insert("a"))
    assert await count(store) == 1


async def test_writes_that_wait_share_a_commit(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    await store.write(insert("first"))
    commits, held = 0, threading.Event()

    def counted(_: Connection) -> None:
        nonlocal commits
        commits += 1

    assert store._engine is not None
    sa.event.listen(store._engine, "commit", counted)
    blocker = asyncio.create_task(store.write(lambda _: held.wait(10)))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(store.write(insert(f"n{number}"))) for number in range(100)]
    await asyncio.sleep(0.05)
    held.set()
    await asyncio.gather(blocker, *others)
    assert await count(store) == 101
    assert commits == 2  # the blocker's, and one for all the others
    await store.close()


async def test_the_ends_of_runs_cross_the_driver_at_once(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    await store.write(insert("first"))
    ledger, held, calls = Ledger(store), threading.Event(), list[bool]()
    assert store._engine is not None

    def counted(_: Connection, __: object, sql: str, ___: object, ____: object, many: bool) -> None:
        if sql.startswith("INSERT INTO ledger"):
            calls.append(many)

    sa.event.listen(store._engine, "before_cursor_execute", counted)
    blocker = asyncio.create_task(store.write(lambda _: held.wait(10)))
    await asyncio.sleep(0.05)
    for number in range(20):
        ledger.settle(Row(str(number), "r", 0, "t", "http", "chat", "m", "1", "e", "onprem", state="settled"))
    held.set()
    await blocker
    await store.write(lambda _: None)
    assert calls == [True]
    assert sum(costs.requests for costs in await ledger.costs("model")) == 20
    await store.close()


async def test_a_timer_that_rings_early_does_not_end_the_writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "_lingers_s", lambda _: 0.001)
    store.post(insert("a"))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(store.write(insert("b")), 5)
    assert await count(store) == 2


async def test_a_write_that_fails_fails_alone(store: Store) -> None:
    await store.write(insert("a"))
    held = threading.Event()
    blocker = asyncio.create_task(store.write(lambda _: held.wait(10)))
    await asyncio.sleep(0.05)
    several = [asyncio.create_task(store.write(work)) for work in (insert("b"), insert("a"), insert("c"))]
    broken = asyncio.create_task(store.write(lambda _: 1 // 0))
    await asyncio.sleep(0.05)
    held.set()
    results = await asyncio.gather(blocker, *several, broken, return_exceptions=True)
    assert [type(result) for result in results[1:]] == [type(None), IntegrityError, type(None), ZeroDivisionError]
    assert await count(store) == 3


async def test_a_write_that_nobody_waits_for_any_more_is_not_done(store: Store) -> None:
    await store.write(insert("a"))
    held = threading.Event()
    blocker = asyncio.create_task(store.write(lambda _: held.wait(10)))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(store.write(insert("b")))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.sleep(0)
    held.set()
    await blocker
    await store.write(insert("c"))
    assert await count(store) == 2


async def test_closing_writes_what_was_posted(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    for number in range(300):
        store.post(insert(f"n{number}"))
    await store.close()
    with pytest.raises(Unavailable):
        await store.write(insert("late"))
    again = Store(sqlite_url)
    assert await count(again) == 300
    await again.close()


async def test_a_store_that_cannot_be_reached_refuses_quickly() -> None:
    faults: list[str] = []
    store = Store("postgresql+psycopg://nobody@127.0.0.1:1/none", lambda name, _: faults.append(name))
    started = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        await store.write(lambda _: None)
    with pytest.raises(Unavailable):
        await store.read(lambda _: None)
    assert time.monotonic() - started < 3
    assert refused.value.retry_after_s
    assert set(faults) == {"store_away"}
    await store.close(grace_s=0.1)


async def test_a_full_disk_is_survived(sqlite_url: str, small_files: Callable[[int], None]) -> None:
    """New work is refused, what was posted is kept, and both go on when there is room again."""
    faults: list[str] = []
    store = Store(sqlite_url, lambda name, _: faults.append(name))
    await store.write(insert("a"))
    small_files(200_000)
    for number in range(1000):
        store.post(insert(f"{number}" + "x" * 500))
    await _until(lambda: len(faults), 1)
    with pytest.raises(Unavailable):
        await store.write(insert("b"))
    assert await count(store) < 1001  # it can still be read
    small_files(-1)
    while await count(store) < 1001:
        await asyncio.sleep(0.1)
    await store.write(insert("c"))
    assert await count(store) == 1002
    assert set(faults) == {"store_away"}
    await store.close()


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets the size that this process's files may have, in bytes: to write more fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda largest: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def _until(measure: Callable[[], int], least: int) -> None:
    async with asyncio.timeout(20):
        while measure() < least:
            await asyncio.sleep(0.02)
