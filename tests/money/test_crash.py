"""Faults in the middle of runs: nothing stays held, and the ledger says what the engine produced."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from functools import partial

from serve_app.errors import InsufficientQuota, Unavailable
from serve_app.services.ledger import LEASE_MS, Ledger, now_ms
from serve_app.services.store import Store
from serve_app.stages.meter import meter
from serve_app.types import Delta, Done, Event, Job, Usage
from tests.money.rows import account, rows
from tests.money.runs import BOUND, ROUTED, TARIFF, drain, job
from tests.postgres import Server

DOOMED = """
import asyncio, sys
from serve_app.services.ledger import Ledger
from serve_app.services.store import Store
from tests.money.runs import WHOLE, drain, job, metered

async def main():
    ledger = Ledger(Store(sys.argv[1]))
    ledger.open()
    budget = {"key": "k", "budget_nano_usd": 10**12}
    await drain(metered(ledger, *WHOLE), job(**budget))
    run = metered(ledger, *WHOLE, pause_s=0.05)(job(**budget))
    await anext(run)
    await anext(run)
    print("in the middle", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_hold_of_a_killed_process_is_freed(url: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOOMED, url, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"in the middle\n"
    child.send_signal(signal.SIGKILL)
    await child.wait()
    survivor = Ledger(Store(url))
    done, cut = await rows(survivor.store)
    assert (done["state"], cut["state"]) == ("settled", "reserved")
    assert await account(survivor.store, "key:k") == (BOUND, done["cost_nano"])
    await survivor.store.write(partial(survivor._statements.sweep, now_ms() + LEASE_MS + 1))
    done, cut = await rows(survivor.store)
    assert (cut["state"], cut["outcome"], cut["cost_nano"]) == ("lost", "lost", 0)
    assert await account(survivor.store, "key:k") == (0, done["cost_nano"])
    await survivor.store.close()


class Counting:
    """An engine that counts what it has produced, and a crowd that asks it, reads all or leaves in the middle."""

    def __init__(self, ledger: Ledger) -> None:
        self.run = meter(ledger, TARIFF)(self._engine)
        self.produced = self.answered = self.left = self.refused = 0
        self.dice = random.Random(7)

    async def _engine(self, _: Job) -> AsyncGenerator[Event]:
        yield ROUTED
        for _ in range(5):
            await asyncio.sleep(0.002)
            self.produced += 1
            yield Delta("x")
        yield Done(Usage(prompt_tokens=6, completion_tokens=5))

    async def visit(self) -> None:
        """One caller, who may leave early."""
        budget = {"key": "k", "budget_nano_usd": 10**13}
        if self.dice.random() < 0.3:
            run = self.run(job(**budget))
            try:
                for _ in range(self.dice.randint(1, 5)):
                    await anext(run)
                self.left += 1
            except Unavailable:
                self.refused += 1
            await run.aclose()
            return
        try:
            await drain(self.run, job(**budget))
            self.answered += 1
        except Unavailable:
            self.refused += 1
            await asyncio.sleep(0.05)

    async def crowd(self, callers: int, seconds: float) -> None:
        async def keep_coming() -> None:
            ends = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < ends:
                await self.visit()

        await asyncio.gather(*(keep_coming() for _ in range(callers)))

    async def check(self, ledger: Ledger) -> None:
        """What the ledger says is what happened: to the token, and to the nano-dollar."""
        found = await rows(ledger.store)
        settled = [row for row in found if row["state"] == "settled"]
        assert {row["state"] for row in found} <= {"settled", "released"}
        assert len(settled) == self.answered + self.left
        assert sum(row["completion_tokens"] for row in settled) == self.produced
        assert await account(ledger.store, "key:k") == (0, sum(row["cost_nano"] for row in found))


async def test_postgres_may_restart_under_load(postgres: Server, postgres_url: str) -> None:
    """It is stopped in a hurry once and killed once: requests are refused meanwhile, and every sum is exact."""
    ledger = Ledger(Store(postgres_url))
    ledger.open()
    counting = Counting(ledger)
    crowd = asyncio.create_task(counting.crowd(callers=8, seconds=5))
    for stop in (postgres.stop, postgres.kill):
        await asyncio.sleep(0.8)
        await asyncio.to_thread(stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(postgres.start)
    await crowd
    await ledger.close()
    await asyncio.sleep(1)
    await counting.check(ledger)
    await ledger.store.close()
    assert counting.refused
    assert counting.answered


async def test_a_crowd_that_comes_and_goes_is_counted_exactly(ledger: Ledger) -> None:
    counting = Counting(ledger)
    await counting.crowd(callers=20, seconds=1)
    await counting.check(ledger)


async def test_two_racing_for_the_last_of_a_budget(ledger: Ledger) -> None:
    counting = Counting(ledger)
    budget = {"key": "k", "budget_nano_usd": BOUND}
    ends = await asyncio.gather(*(drain(counting.run, job(**budget)) for _ in range(2)), return_exceptions=True)
    assert [type(end) for end in ends].count(InsufficientQuota) == 1
    reserved, spent = await account(ledger.store, "key:k")
    assert reserved == 0
    assert 0 < spent <= BOUND
