"""Switching versions: one write in the store, read by every replica, undone by a rollback."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.cli import main
from serve_app.errors import BadRequest, Conflict, ModelNotFound
from serve_app.policies.versions import Switch, by_version
from serve_app.profile import load_profile
from serve_app.services.store import Store
from serve_app.services.versions import Registry, follow

MODEL = "nano-tutor"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    model = load_profile("embedded").settings.router().catalogue[MODEL]
    store = Store(f"sqlite:///{tmp_path}/versions.db")
    yield Registry(store, by_version([model, replace(model, version="2"), replace(model, version="3")]))
    await store.close()


async def test_nothing_is_switched_at_first(registry: Registry) -> None:
    (state,) = await registry.states()
    assert (state.active, state.canary, state.previous) == ("1", None, None)
    assert state.versions == ("1", "2", "3")


async def test_activate_and_roll_back(registry: Registry) -> None:
    await registry.activate(MODEL, "2")
    assert await registry.switches() == {MODEL: Switch("2")}
    assert (await registry.rollback(MODEL)).active == "1"
    assert (await registry.rollback(MODEL)).active == "2"


async def test_a_canary_is_ended_by_a_share_of_zero_a_rollback_or_its_promotion(registry: Registry) -> None:
    await registry.canary(MODEL, "2", 0.1)
    assert (await registry.switches())[MODEL] == Switch("1", "2", 0.1)
    assert (await registry.canary(MODEL, "2", 0.0)).canary is None
    await registry.canary(MODEL, "3", 0.5)
    assert (await registry.rollback(MODEL)).canary is None
    await registry.canary(MODEL, "3", 0.5)
    promoted = await registry.activate(MODEL, "3")
    assert (promoted.active, promoted.canary, promoted.previous) == ("3", None, "1")


async def test_activating_twice_keeps_the_way_back(registry: Registry) -> None:
    await registry.activate(MODEL, "2")
    await registry.activate(MODEL, "2")
    assert (await registry.rollback(MODEL)).active == "1"


async def test_what_is_not_there_is_refused_by_name(registry: Registry) -> None:
    with pytest.raises(ModelNotFound, match=MODEL):
        await registry.activate("nano", "1")
    with pytest.raises(BadRequest, match="1, 2, 3"):
        await registry.activate(MODEL, "4")
    with pytest.raises(BadRequest, match="from 0 to 1"):
        await registry.canary(MODEL, "2", 1.5)
    with pytest.raises(Conflict):
        await registry.rollback(MODEL)


async def test_replicas_follow_within_two_seconds(registry: Registry) -> None:
    seen: dict[str, Switch] = {}
    following = asyncio.create_task(follow(registry, seen))
    await asyncio.sleep(0.2)
    await registry.activate(MODEL, "2")
    await asyncio.sleep(2.0)
    following.cancel()
    assert seen[MODEL].active == "2"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    assert main(["models", "--json", "list"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["active"] == "1"
    assert main(["models", "activate", MODEL, "9"]) == 1
    assert "versions 1" in capsys.readouterr().err
