"""What was spent, as people ask for it: over HTTP and on the command line."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from serve_app import cli
from serve_app.api import http
from serve_app.services.ledger import Ledger
from tests.api.stub import Stub
from tests.money.rows import row, settled

DAY_MS = 1_793_404_800_000  # 2026-10-31, midnight UTC


@pytest.fixture
async def filled(sqlite_ledger: Ledger) -> Ledger:
    for number, tenant in enumerate(("school", "school", "club")):
        kept = row(sqlite_ledger, tenant=tenant, model=f"m{number}", created_ms=DAY_MS + number)
        sqlite_ledger.settle(settled(kept, cost_nano=1_000_000_001 + number, prompt_tokens=3, engine_us=1500))
    await sqlite_ledger.store.write(lambda _: None)
    return sqlite_ledger


@pytest.fixture
async def client(filled: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    app = http.build(replace(Stub().service(), ledger=filled))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_costs_by_tenant(client: httpx.AsyncClient) -> None:
    report = (await client.get("/api/v1/finops/costs", params={"group_by": "tenant"})).json()
    assert [(found["tenant"], found["requests"], found["cost_usd"]) for found in report["data"]] == [
        ("school", 2, 2.000000003),
        ("club", 1, 1.000000003),
    ]
    assert report["total_usd"] == 3.000000006
    assert set(report["data"][0]) == {
        "tenant", "requests", "prompt_tokens", "completion_tokens", "cached_tokens", "engine_s", "cost_usd",
        "saved_usd", "audio_s", "frames", "characters",
    }  # fmt: skip


async def test_a_period_ends_before_its_last_moment(client: httpx.AsyncClient) -> None:
    async def found(**period: str) -> list[str]:
        params = {"group_by": "model", **period}
        report = (await client.get("/api/v1/finops/costs", params=params)).json()
        return sorted(row["model"] for row in report["data"])

    assert await found(**{"from": "2026-10-31"}) == ["m0", "m1", "m2"]
    assert await found(**{"from": "2026-10-31T00:00:00.001Z", "to": "2026-10-31T00:00:00.002Z"}) == ["m1"]
    assert await found(to="2026-10-31T09:00:00+09:00") == []


async def test_mistakes_are_told(client: httpx.AsyncClient) -> None:
    for params, param in (({"group_by": "colour"}, "group_by"), ({"from": "yesterday"}, "from")):
        answer = await client.get("/api/v1/finops/costs", params=params)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_the_command_line(filled: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "mine.yaml"
    text = (Path(cli.__file__).parent / "profiles/embedded.yaml").read_text(encoding="utf-8")
    store = f"      store: {{url: '{filled.store.url}'}}\n\n      engines:"
    profile.write_text(text.replace("      engines:", store, 1), encoding="utf-8")
    assert cli.main(["costs", "--profile", str(profile), "--by", "tenant", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total_usd"] == 3.000000006
    assert cli.main(["costs", "--profile", str(profile), "--by", "day", "--from", "2026-10-31"]) == 0
    assert "2026-10-31" in capsys.readouterr().out
