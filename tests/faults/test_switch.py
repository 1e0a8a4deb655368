"""A model's version is switched, tried on some and rolled back while requests keep coming, and none of them fails."""

import asyncio
import itertools
import time

import httpx
import pytest

from tests.cluster.conftest import Service
from tests.faults.conftest import under_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]

IN_FORCE_S = 5.0  # every ingress replica has heard of a switch by then
ROUNDS = 3


async def test_switching_loses_no_request(service: Service) -> None:
    switched: list[tuple[float, str]] = []

    async def switches() -> None:
        async with httpx.AsyncClient(base_url=f"{service.url}/api/v1/admin/models/steady-1") as admin:
            for _ in range(ROUNDS):
                (await admin.post("/activate", json={"version": "2"})).raise_for_status()
                switched.append((time.monotonic(), "steady-1@2"))
                await asyncio.sleep(IN_FORCE_S + 1)
                (await admin.post("/rollback")).raise_for_status()
                switched.append((time.monotonic(), "steady-1@1"))
                await asyncio.sleep(IN_FORCE_S + 1)
            (await admin.post("/canary", json={"version": "2", "share": 0.5})).raise_for_status()
            switched.append((time.monotonic(), "either"))
            await asyncio.sleep(IN_FORCE_S)
            (await admin.post("/rollback")).raise_for_status()

    history = await under_load(service.url, switches)
    assert set(history.endings) == {"unary ok", "stream ok"}, history.strange[:5]
    for (began, version), (ended, _) in itertools.pairwise(switched):
        answered = {model for sent, model in history.models if began + IN_FORCE_S < sent < ended}
        assert answered == {version}
    assert {model for sent, model in history.models if sent > switched[-1][0]} == {"steady-1@1", "steady-1@2"}
