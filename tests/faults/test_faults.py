"""What a caller sees when processes die under load: nothing, or the truth."""

import asyncio
import random
import time

import httpx
import psutil
import pytest

from tests.cluster.conftest import Service, eventually, metric
from tests.faults.conftest import body, check_ledger, nothing_is_held, processes, under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

KILLS = 20
SWEPT_WITHIN_S = 60.0  # the runs of a dead ingress are closed when its lease of 30 s has run out


async def _kill_one(service: Service, name: str) -> None:
    victim = random.choice(processes(service, name))
    victim.kill()
    await asyncio.to_thread(victim.wait, 10)


async def _replaced(service: Service, name: str, count: int) -> None:
    """Wait until as many processes as before answer to that name again, and have loaded."""
    deadline = time.monotonic() + 60
    while len(processes(service, name)) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    await asyncio.sleep(1.5)


async def test_replica_kills_are_invisible_or_told_honestly(service: Service) -> None:
    async def faults() -> None:
        for _ in range(KILLS):
            await _kill_one(service, "ServeReplica:megacity:steady")
            await _replaced(service, "ServeReplica:megacity:steady", 3)

    history = await under_load(service.url, faults)
    assert set(history.endings) <= {"unary ok", "stream ok", "stream told honestly"}, history.strange[:5]
    assert history.endings["unary ok"] > 100
    assert history.endings["stream ok"] > 100
    check_ledger(service, history)


async def test_a_killed_ingress_costs_at_most_a_second(service: Service) -> None:
    """Only connections that it held are cut; new ones go to its twin at once."""
    url = f"{service.url}/v1/chat/completions"
    slowest = 0.0
    for _ in range(3):
        await _kill_one(service, "ServeReplica:megacity:ingress")
        async with httpx.AsyncClient(timeout=10) as client:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                started = time.monotonic()
                answer = await client.post(url, json=body(False), headers={"connection": "close"})
                assert answer.status_code == 200
                slowest = max(slowest, time.monotonic() - started)
        await _replaced(service, "ServeReplica:megacity:ingress", 2)
    assert slowest <= 1.0
    assert nothing_is_held(service, SWEPT_WITHIN_S)


async def test_a_killed_controller_is_invisible(service: Service) -> None:
    async def faults() -> None:
        for _ in range(3):
            await _kill_one(service, "ServeController")
            await _replaced(service, "ServeController", 1)

    history = await under_load(service.url, faults)
    assert set(history.endings) == {"unary ok", "stream ok"}, history.strange[:5]
    check_ledger(service, history)


async def test_five_hundred_cancels_at_once_leak_nothing(service: Service) -> None:
    async def leave(client: httpx.AsyncClient, number: int) -> None:
        timeout = httpx.Timeout(10, read=random.uniform(0.01, 0.3))
        try:
            if number % 2:
                await client.post("/v1/chat/completions", json=body(False), timeout=timeout)
            else:
                async with client.stream("POST", "/v1/chat/completions", json=body(True), timeout=timeout) as response:
                    async for _ in response.aiter_lines():
                        if random.random() < 0.2:
                            return
        except (httpx.ReadTimeout, httpx.TransportError):
            return

    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(base_url=service.url, limits=limits) as client:
        await asyncio.gather(*(leave(client, number) for number in range(500)))

    def idle() -> bool:
        gauges = ("megacity_engine_slots_busy", "megacity_engine_waiting", "megacity_requests_in_flight")
        return all(metric(service.url, gauge) == 0 for gauge in gauges)

    assert eventually(idle, 5.0)
    assert nothing_is_held(service)
    assert httpx.post(f"{service.url}/v1/chat/completions", json=body(False)).status_code == 200


async def test_a_client_that_never_reads_costs_no_memory(service: Service) -> None:
    ingresses = processes(service, "ServeReplica:megacity:ingress")
    before = {process.pid: process.memory_info().rss for process in ingresses}
    request = httpx.Request("POST", f"{service.url}/v1/chat/completions", json=body(True))
    raw = f"POST {request.url.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {request.headers['content-length']}\r\n\r\n"
    writers = []
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1)
        writer.write(raw.encode() + request.content)
        writers.append(writer)
    await asyncio.sleep(5)
    after = {process.pid: process.memory_info().rss for process in ingresses if psutil.pid_exists(process.pid)}
    for writer in writers:
        writer.close()
    assert all(after[pid] - before[pid] < 64 * 1024 * 1024 for pid in after)
    assert httpx.get(f"{service.url}/healthz").status_code == 200
