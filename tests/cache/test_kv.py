"""Where answers are kept: within its bounds, until their time is over, and never in anybody's way."""

import asyncio
import random
import socket
import time

import pytest

from serve_app.services.kv import ENTRY_OVERHEAD, PREFIX, REST_S, TIMEOUT_S, Memory, Shared
from tests.cache.conftest import Engine, Server, question
from tests.room.conftest import Clock


async def test_memory_never_holds_more_than_it_may() -> None:
    memory, rng = Memory(20_000), random.Random(7)
    for _ in range(2_000):
        await memory.put(rng.randbytes(2), bytes(rng.randrange(4_000)), 60)
        assert memory.bytes <= 20_000
    assert memory.bytes == sum(len(k) + len(v) + ENTRY_OVERHEAD for k, (v, _) in memory._entries.items())


async def test_what_was_not_used_for_longest_goes_first() -> None:
    memory = Memory(3 * (ENTRY_OVERHEAD + 2))
    for key in (b"a", b"b", b"c"):
        await memory.put(key, b"1", 60)
    await memory.get(b"a")
    await memory.put(b"d", b"1", 60)
    assert [await memory.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"1", None, b"1", b"1"]


async def test_what_does_not_fit_at_all_drives_nothing_out() -> None:
    memory = Memory(1_000)
    await memory.put(b"a", b"1", 60)
    await memory.put(b"b", bytes(2_000), 60)
    assert (await memory.get(b"a"), await memory.get(b"b")) == (b"1", None)


async def test_memory_forgets_in_time() -> None:
    clock = Clock()
    memory = Memory(1_000, clock)
    await memory.put(b"a", b"1", 60)
    clock.now += 59
    assert await memory.get(b"a") == b"1"
    clock.now += 1
    assert await memory.get(b"a") is None
    assert memory.bytes == 0


async def test_redis_forgets_in_time(shared: Shared) -> None:
    await shared.put(b"a", b"1", 1)
    assert await shared.get(b"a") == b"1"
    await asyncio.sleep(1.1)
    assert await shared.get(b"a") is None


async def test_two_processes_share_a_redis(server: Server, shared: Shared) -> None:
    other = Shared(server.url, lambda *_: None, timeout_s=5)
    await shared.put(b"a", b"1", 60)
    assert await other.get(b"a") == b"1"
    await other.close()


async def test_an_answer_to_another_question_is_no_answer(server: Server, shared: Shared) -> None:
    """As a connection would give that got out of step."""
    await shared.put(b"key-of-a", b"secret of a", 60)
    found = await shared._redis.get(PREFIX + b"key-of-a")
    await shared._redis.set(PREFIX + b"key-of-b", found)
    assert await shared.get(b"key-of-b") is None


async def test_without_redis_everything_is_a_miss_and_nothing_an_error(
    server: Server, shared: Shared, faults: list[str]
) -> None:
    engine = Engine(shared)
    assert [await engine.result(question()) for _ in range(2)] == ["miss", "hit"]
    server.stop()
    assert [await engine.result(question()) for _ in range(20)] == ["miss"] * 20
    assert 1 <= len(faults) <= 2
    server.start()
    await asyncio.sleep(REST_S)
    assert [await engine.result(question()) for _ in range(2)] == ["miss", "hit"]


async def test_a_redis_that_hangs_costs_little(faults: list[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        kv = Shared(f"redis://127.0.0.1:{silent.getsockname()[1]}", lambda name, _: faults.append(name))
        engine, started = Engine(kv), time.monotonic()
        assert [await engine.result(question()) for _ in range(10)] == ["miss"] * 10
        assert time.monotonic() - started < 3 * TIMEOUT_S + 0.5
        await kv.close()


async def test_readers_that_leave_do_not_mix_up_answers(shared: Shared) -> None:
    """Cancelled in the middle of a command, many times, on connections that are used again."""
    for at in range(20):
        await shared.put(b"key-%02d" % at, b"value-%02d" % at, 60)
    for round_ in range(10):
        reads = [asyncio.create_task(shared.get(b"key-%02d" % at)) for at in range(20)]
        await asyncio.sleep(0.0003 * round_)
        for read in reads[::2]:
            read.cancel()
        found = await asyncio.gather(*reads, return_exceptions=True)
        for at, value in enumerate(found):
            assert isinstance(value, asyncio.CancelledError) or value in (b"value-%02d" % at, None)
    assert await shared.get(b"key-07") == b"value-07"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://no-such-host.invalid:6379"])
async def test_a_wrong_address_is_a_miss_too(url: str, faults: list[str]) -> None:
    kv = Shared(url, lambda name, _: faults.append(name))
    assert await kv.get(b"a") is None
    assert faults == ["cache_away"]
    await kv.close()
