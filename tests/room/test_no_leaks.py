"""Whatever is cancelled, expires or is refused, and whenever: no slot is lost and none is used twice."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import DeadlineExceeded, QueueFull
from serve_app.room import Room
from serve_app.types import Caller, Chat, Constraints, Job, Kind, Priority

ROUNDS = 40


@dataclass
class Story:
    """Random runs in a room; `most` is the largest number that ran at once."""

    room: Room
    rng: random.Random
    running: int = 0
    most: int = 0
    ended: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self, job: Job) -> None:
        try:
            async with self.room.slot(job):
                self.running += 1
                self.most = max(self.most, self.running)
                try:
                    for _ in range(self.rng.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    self.running -= 1
        except (QueueFull, DeadlineExceeded):
            pass
        finally:
            self.ended += 1

    def job(self, number: int) -> Job:
        deadline = self.rng.choice([None, None, time.time() + self.rng.choice([-1, 0, 0.0005, 5])])
        tenant = Caller(self.rng.choice("abc"))
        return Job(
            str(number), Kind.CHAT, Chat(()), tenant, constraints=Constraints(self.rng.choice([*Priority]), deadline)
        )

    async def unfold(self) -> None:
        for number in range(ROUNDS):
            self.tasks.append(asyncio.create_task(self.run(self.job(number))))
            for _ in range(self.rng.randrange(3)):
                self.rng.choice(self.tasks).cancel()
            for _ in range(self.rng.randrange(3)):
                await asyncio.sleep(0)
            assert self.room.busy <= self.room.slots
            assert len(self.room.waiters) <= self.room.places
            assert self.room.busy == self.room.slots or not self.room.waiters
        _, stuck = await asyncio.wait(self.tasks, timeout=10)
        assert not stuck


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 4), waiting=st.integers(0, 6))
def test_no_slot_is_lost_or_used_twice(seed: int, slots: int, waiting: int) -> None:
    story = Story(Room("leaks", slots, waiting), random.Random(seed))
    asyncio.run(story.unfold())
    assert (story.room.busy, story.running, story.room.waiters) == (0, 0, [])
    assert story.most <= slots


async def test_a_slot_handed_to_one_who_is_leaving_goes_to_the_next() -> None:
    """Cancelled between the hand-over and the task's next step: the moment in which slots used to leak."""
    room, served = Room("handover", 1, 4), list[str]()

    async def run(name: str) -> None:
        async with room.slot(Job(name, Kind.CHAT, Chat(()))):
            served.append(name)
            await asyncio.sleep(0)
        if name == "first":
            tasks[1].cancel()

    tasks = [asyncio.create_task(run(name)) for name in ("first", "leaver", "next")]
    await asyncio.wait(tasks, timeout=5)
    assert served == ["first", "next"]
    assert room.busy == 0
