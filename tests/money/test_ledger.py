"""The ledger against both databases: holds, sweeps, late settlements and sums."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import pytest
import sqlalchemy as sa

from serve_app.errors import InsufficientQuota
from serve_app.services.ledger import LEASE_MS, OWNERS, Ledger, Row, now_ms
from serve_app.services.store import Store
from tests.money.rows import account, row, rows, settled


async def sweep(ledger: Ledger, at_ms: int) -> None:
    await ledger.store.write(partial(ledger._statements.sweep, at_ms))


async def test_settling_counts_once(ledger: Ledger) -> None:
    held = row(ledger, account="key:a", reserved_nano=100)
    await ledger.reserve(held, limit_nano=1000)
    assert await account(ledger.store, "key:a") == (100, 0)
    for cost in (30, 30, 99):
        ledger.settle(settled(held, cost_nano=cost))
    assert await account(ledger.store, "key:a") == (0, 30)
    (kept,) = await rows(ledger.store)
    assert (kept["state"], kept["cost_nano"]) == ("settled", 30)


async def test_an_account_is_held_to_the_last_nano_dollar(ledger: Ledger) -> None:
    for _ in range(3):
        await ledger.reserve(row(ledger, account="key:a", reserved_nano=33), limit_nano=100)
    await ledger.reserve(row(ledger, account="key:a", reserved_nano=1), limit_nano=100)
    with pytest.raises(InsufficientQuota):
        await ledger.reserve(row(ledger, account="key:a", reserved_nano=1), limit_nano=100)
    await ledger.reserve(row(ledger, account="key:a", reserved_nano=1), limit_nano=101)  # the limit was raised
    with pytest.raises(InsufficientQuota):
        await ledger.reserve(row(ledger, account="key:new", reserved_nano=5), limit_nano=4)


async def test_two_processes_share_a_budget_exactly(url: str) -> None:
    """Two replicas with connections of their own race for what is left, over accounts in opposite orders."""
    replicas = [Ledger(Store(url)) for _ in range(2)]
    await replicas[0].store.write(lambda _: None)

    async def spend(ledger: Ledger, name: str) -> bool:
        held = row(ledger, account=name, reserved_nano=10)
        try:
            await ledger.reserve(held, limit_nano=200)
        except InsufficientQuota:
            return False
        ledger.settle(settled(held, cost_nano=10))
        return True

    names = [f"key:{number}" for number in range(5)]
    tasks = [spend(replicas[0], name) for name in names * 20] + [spend(replicas[1], name) for name in names[::-1] * 20]
    won = await asyncio.gather(*tasks)
    assert won.count(True) == 5 * 20
    for replica in replicas:
        await replica.store.write(lambda _: None)
    assert [await account(replicas[0].store, name) for name in names] == [(0, 200)] * 5
    for replica in replicas:
        await replica.store.close()


async def test_the_rows_of_the_dead_are_swept_and_those_of_the_living_stay(ledger: Ledger) -> None:
    dead, living = Ledger(ledger.store), Ledger(ledger.store)
    now = now_ms()
    await ledger.store.write(partial(ledger._statements.renew, dead.owner, now - LEASE_MS - 1))
    await ledger.store.write(partial(ledger._statements.renew, living.owner, now))
    lost = row(dead, account="key:a", reserved_nano=70)
    kept = row(living, account="key:a", reserved_nano=7)
    early = row(Ledger(ledger.store))  # of a process that has not said yet that it lives
    for held in (lost, kept, early):
        await ledger.reserve(held, limit_nano=1000)
    await sweep(ledger, now)
    found = {found["id"]: found for found in await rows(ledger.store)}
    assert (found[lost.id]["state"], found[lost.id]["outcome"], found[lost.id]["cost_nano"]) == ("lost", "lost", 0)
    assert found[kept.id]["state"] == found[early.id]["state"] == "reserved"
    assert await account(ledger.store, "key:a") == (7, 0)


async def test_a_settlement_after_the_sweep_still_counts(ledger: Ledger) -> None:
    """A process that was frozen, and not dead, says what its run has used after all."""
    held = row(ledger, account="key:a", reserved_nano=70, created_ms=now_ms() - 2 * LEASE_MS)
    await ledger.reserve(held, limit_nano=1000)
    await sweep(ledger, now_ms())
    assert await account(ledger.store, "key:a") == (0, 0)
    ledger.settle(settled(held, cost_nano=50))
    assert await account(ledger.store, "key:a") == (0, 50)
    (kept,) = await rows(ledger.store)
    assert (kept["state"], kept["outcome"]) == ("settled", "ok")


async def test_a_process_renews_its_lease_and_gives_it_back(ledger: Ledger) -> None:
    async def leases() -> int:
        await ledger.store.write(lambda _: None)
        query = sa.select(sa.func.count()).select_from(OWNERS).where(OWNERS.c.id == ledger.owner)
        return int(await ledger.store.read(lambda connection: connection.scalar(query)) or 0)

    ledger.open()
    await asyncio.sleep(0)
    assert await leases() == 1
    await ledger.close()
    assert await leases() == 0


async def test_sums_are_exact_by_every_group(ledger: Ledger) -> None:
    noon = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
    made: list[Row] = []
    for number in range(60):
        made.append(
            settled(
                row(
                    ledger,
                    tenant=f"t{number % 2}",
                    model=f"m{number % 3}",
                    zone=None if number % 5 else "campus",
                    user_id=f"u{number % 4}",
                    created_ms=noon + (number % 2) * 86_400_000,
                ),
                cost_nano=10**9 + number,
                prompt_tokens=number,
                completion_tokens=2 * number,
                engine_us=3 * number,
            )
        )
        ledger.settle(made[-1])
    await ledger.store.write(lambda _: None)
    for group, attribute in (("tenant", "tenant"), ("model", "model"), ("zone", "zone"), ("user", "user_id")):
        found = await ledger.costs(group)  # type: ignore[arg-type]
        for costs in found:
            of = [kept for kept in made if getattr(kept, attribute) == costs.group]
            assert costs.requests == len(of)
            assert costs.cost_nano == sum(kept.cost_nano for kept in of)
            assert costs.engine_us == sum(kept.engine_us for kept in of)
            assert costs.completion_tokens == sum(kept.completion_tokens for kept in of)
        assert sum(costs.cost_nano for costs in found) == sum(kept.cost_nano for kept in made)
        assert found == sorted(found, key=lambda costs: -costs.cost_nano)
    assert [costs.group for costs in await ledger.costs("day")] == ["2026-11-21", "2026-11-20"]
    assert [costs.group for costs in await ledger.costs("tenant", tenant="t1")] == ["t1"]
    assert sum(c.requests for c in await ledger.costs("model", noon + 1)) == 30
    assert sum(c.requests for c in await ledger.costs("model", 0, noon + 1)) == 30
