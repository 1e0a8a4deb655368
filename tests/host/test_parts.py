"""What a run has other engines do is put down to that run."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from serve_app import host
from serve_app.engine import Engine
from serve_app.room import Room
from serve_app.types import Chat, Delta, Done, Event, Handler, Job, Kind, Message, Part, Usage


class Teacher(Engine):
    kinds = frozenset({Kind.CHAT})
    needs: Mapping[str, Kind] = {"one": Kind.CHAT, "two": Kind.CHAT}

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        """Asks both at the same time, one of them twice."""
        await asyncio.gather(*(self._ask(role, job) for role in ("one", "two", "two")))
        yield Delta("done")
        yield Done(Usage(completion_tokens=1, engine_s=2.0))

    async def _ask(self, role: str, job: Job) -> None:
        async for _ in self.handlers[role](job):
            await asyncio.sleep(0)


def answering(tokens: int) -> Handler:
    async def run(job: Job) -> AsyncGenerator[Event]:
        await asyncio.sleep(0.01)
        yield Done(Usage(prompt_tokens=tokens * len(job.payload.text), engine_s=0.5))

    return run


class Alone(host.Host):
    """The host as Serve would have started it, but for the Serve handles."""

    def __del__(self) -> None:  # which Serve awaits
        pass


def hosted() -> host.Host:
    one = object.__new__(Alone)
    handlers = {"one": host._counted("first", answering(1)), "two": host._counted("second", answering(10))}
    one.engine = Teacher(Teacher.Options(), handlers)
    one.room = Room("teacher", 4, 4)
    return one


async def usage_of(one: host.Host, text: str) -> Usage:
    job = Job("j", Kind.CHAT, Chat((Message("user", text),)))
    batches = [batch async for batch in one.run(job)]
    done = batches[-1][-1]
    assert isinstance(done, Done)
    return done.usage


async def test_parts_are_summed_and_named() -> None:
    usage = await usage_of(hosted(), "x")
    assert (usage.prompt_tokens, usage.completion_tokens, usage.engine_s) == (21, 1, 3.5)
    assert sorted(part.engine for part in usage.parts) == ["first", "second", "second"]
    assert usage.per_engine("teacher") == {
        "teacher": Usage(completion_tokens=1, engine_s=2.0),
        "first": Usage(prompt_tokens=1, engine_s=0.5),
        "second": Usage(prompt_tokens=20, engine_s=1.0),
    }


async def test_runs_at_the_same_time_keep_their_own_parts() -> None:
    one = hosted()
    found = await asyncio.gather(*(usage_of(one, "x" * length) for length in (1, 2, 3)))
    assert [usage.prompt_tokens for usage in found] == [21, 42, 63]
    assert all(isinstance(part, Part) for usage in found for part in usage.parts)
