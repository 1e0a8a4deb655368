"""Who goes next, and who has to go."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from serve_app import room as rooms
from serve_app.errors import DeadlineExceeded, QueueFull
from serve_app.room import AGED_TURN, AGEING_S, Room
from serve_app.types import Job, Priority
from tests.room.conftest import Ask, Clock

PREMIUM, STANDARD, BATCH = Priority


class Queue:
    """A room with one slot, which is held until `serve` hands it on."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.served: list[Job] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.go = asyncio.Semaphore(0)

    async def _run(self, job: Job) -> None:
        async with self.room.slot(job):
            self.served.append(job)
            await self.go.acquire()

    async def add(self, *jobs: Job) -> None:
        for job in jobs:
            self.tasks[job.id] = asyncio.create_task(self._run(job))
            await asyncio.sleep(0)

    async def serve(self, count: int = 1) -> None:
        for _ in range(count):
            self.go.release()
            for _ in range(5):
                await asyncio.sleep(0)

    async def outcome(self, job: Job) -> BaseException | None:
        await asyncio.wait([self.tasks[job.id]])
        return self.tasks[job.id].exception()


@contextlib.asynccontextmanager
async def queue(clock: Clock, waiting: int = 8) -> AsyncIterator[Queue]:
    made = Queue(Room("order", 1, waiting, clock))
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.wait(made.tasks.values())
    assert (made.room.busy, made.room.waiters) == (0, [])


async def test_a_class_goes_before_the_lower_ones(ask: Ask, clock: Clock) -> None:
    async with queue(clock) as line:
        jobs = [ask(priority=p) for p in (STANDARD, BATCH, STANDARD, PREMIUM, BATCH, PREMIUM)]
        await line.add(*jobs)
        await line.serve(5)
        assert line.served == [jobs[0], jobs[3], jobs[5], jobs[2], jobs[1], jobs[4]]


async def test_tenants_of_a_class_take_turns(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 12) as line:
        await line.add(*[ask("a") for _ in range(6)], *[ask("b") for _ in range(2)], ask("c"))
        await line.serve(8)
        assert [job.caller.tenant for job in line.served] == list("aabcabaaa")


async def test_a_flood_does_not_hold_up_one_who_asks_again_and_again(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 40) as line:
        await line.add(*[ask("flood") for _ in range(30)])
        for _ in range(10):
            await line.add(ask("calm"))
            await line.serve(2)
        assert sum(job.caller.tenant == "calm" for job in line.served) == 10


async def test_batch_is_served_while_premium_never_ends(ask: Ask, clock: Clock) -> None:
    async with queue(clock) as line:
        await line.add(ask(priority=PREMIUM), ask(priority=PREMIUM), ask("b", BATCH))
        clock.now += 2 * AGEING_S
        for _ in range(AGED_TURN):
            await line.add(ask(priority=PREMIUM))
            await line.serve()
        assert [job.constraints.priority for job in line.served].count(BATCH) == 1


async def test_what_has_waited_long_takes_few_turns_of_premium(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 300) as line:
        await line.add(ask("p", PREMIUM), *[ask(f"t{n % 7}") for n in range(200)])
        clock.now += 10 * AGEING_S
        for _ in range(80):
            await line.add(ask("p", PREMIUM))
            await line.serve()
        overtaken = sum(job.constraints.priority > PREMIUM for job in line.served)
        assert overtaken <= 80 / AGED_TURN + 1


async def test_nobody_rises_before_their_time(ask: Ask, clock: Clock) -> None:
    async with queue(clock) as line:
        await line.add(ask(priority=PREMIUM), ask(priority=BATCH))
        clock.now += AGEING_S - 1
        for _ in range(2 * AGED_TURN):
            await line.add(ask(priority=STANDARD))
            await line.serve()
        assert BATCH not in [job.constraints.priority for job in line.served]


async def test_a_full_room_refuses_the_lowest_class_at_once(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 2) as line:
        late = ask(priority=BATCH)
        await line.add(ask(), ask(), ask(), late)
        assert isinstance(await line.outcome(late), QueueFull)


async def test_a_higher_class_takes_the_place_of_the_youngest_of_the_lowest(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 3) as line:
        old, young, standard, premium = (ask(priority=p) for p in (BATCH, BATCH, STANDARD, PREMIUM))
        await line.add(ask(), old, young, standard, premium)
        assert isinstance(await line.outcome(young), QueueFull)
        await line.serve(3)
        assert line.served[1:] == [premium, standard, old]


async def test_in_one_class_the_tenant_with_most_places_gives_one_up(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 4) as line:
        flood = [ask("flood") for _ in range(5)]
        await line.add(*flood, ask("calm"))
        assert isinstance(await line.outcome(flood[-1]), QueueFull)
        last = ask("flood")
        await line.add(last)
        assert isinstance(await line.outcome(last), QueueFull)


async def test_a_room_without_places_refuses_what_finds_no_slot(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 0) as line:
        second = ask(priority=PREMIUM)
        await line.add(ask(), second)
        assert isinstance(await line.outcome(second), QueueFull)


async def test_retry_after_follows_the_observed_pace(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 3) as line:
        await line.add(ask())
        clock.now += 2.0
        await line.serve()
        await line.add(*[ask() for _ in range(4)])
        refused = ask()
        await line.add(refused)
        error = await line.outcome(refused)
        assert isinstance(error, QueueFull)
        assert error.retry_after_s == 8


async def test_retry_after_stays_within_bounds(ask: Ask, clock: Clock) -> None:
    async with queue(clock, 0) as line:
        await line.add(ask())
        clock.now += 10_000
        await line.serve()
        refused = ask()
        await line.add(ask(), refused)
        error = await line.outcome(refused)
        assert isinstance(error, QueueFull)
        assert error.retry_after_s == rooms.RETRY_AFTER_AT_MOST_S


async def test_what_has_expired_never_starts(ask: Ask, clock: Clock) -> None:
    async with queue(clock) as line:
        expired = ask(deadline=time.time() - 1)
        await line.add(expired)
        with pytest.raises(DeadlineExceeded):
            raise await line.outcome(expired) or AssertionError
        assert line.served == []


async def test_a_deadline_ends_the_waiting(ask: Ask, clock: Clock) -> None:
    async with queue(clock) as line:
        hurried = ask(priority=PREMIUM, deadline=time.time() + 0.05)
        await line.add(ask(), hurried)
        assert isinstance(await line.outcome(hurried), DeadlineExceeded)
        assert line.room.waiters == []
        await line.serve()
        assert hurried not in line.served


async def test_who_leaves_gives_up_the_place(ask: Ask, clock: Clock) -> None:
    async with queue(clock) as line:
        leaver, other = ask(priority=PREMIUM), ask()
        await line.add(ask(), leaver, other)
        line.tasks[leaver.id].cancel()
        await asyncio.sleep(0)
        assert [waiter.tenant for waiter in line.room.waiters] == ["a"]
        await line.serve()
        assert line.served[1:] == [other]
