"""When the service refuses to start."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve_app import exposure
from serve_app.cli import main
from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.profile import load_profile
from serve_app.services.keys import Grant, opened
from tests.guard.conftest import House

TOKEN = "a" * 64


def settings(host: str = "0.0.0.0", door: str = "http", **access: Any) -> Settings:
    chosen = load_profile("workstation").settings.model_dump()
    chosen["ingress"][door]["host"] = host
    chosen["access"].update(access)
    return Settings.model_validate(chosen)


def token(folder: Path, text: str = TOKEN, mode: int = 0o600) -> dict[str, str]:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


async def test_with_everything_in_place_it_may_listen(house: House, tmp_path: Path) -> None:
    await house.key()
    for mode in (0o600, 0o400):
        (tmp_path / "token").unlink(missing_ok=True)
        await exposure.check(settings(), house.keys, token(tmp_path, mode=mode))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_loopback_needs_nothing(house: House, host: str) -> None:
    await exposure.check(settings(host), house.keys, {})
    await exposure.check(load_profile("embedded").settings, house.keys, {})


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_every_other_address_is_exposed(house: House, door: str) -> None:
    for host in ("0.0.0.0", "::", "10.1.2.3", "gpu-box"):
        with pytest.raises(ConfigError, match=f"refusing to listen on {host}: Ray"):
            await exposure.check(settings(host, door), house.keys, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"access": {"anonymous": True}}, "access.anonymous"),
        ({"environment": {"RAY_AUTH_MODE": ""}}, "RAY_AUTH_MODE=token"),
        ({"environment": {"RAY_AUTH_MODE": "disabled"}}, "RAY_AUTH_MODE=token"),
        ({"environment": {"RAY_AUTH_TOKEN_PATH": "/nowhere"}}, "token file is missing"),
        ({"token": {"mode": 0o644}}, "chmod 600"),
        ({"token": {"mode": 0o640}}, "chmod 600"),
        ({"token": {"text": "short"}}, "shorter"),
        ({"key": {"expires": 1.0}}, "no key in force"),
        ({"key": None}, "no key in force"),
    ],
)
async def test_refusals(house: House, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    if (key := change.get("key", {})) is not None:
        await house.key(**key)
    environment = token(tmp_path, **change.get("token", {})) | change.get("environment", {})
    with pytest.raises(ConfigError, match=words) as refused:
        await exposure.check(settings(**change.get("access", {})), house.keys, environment)
    assert "\n" not in str(refused.value)


def test_up_refuses_with_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    up = ["up", "--profile", "workstation", "--host", "0.0.0.0"]
    for command, words in [
        (["up", "--host", "0.0.0.0"], "access.anonymous"),
        (up, "RAY_AUTH_MODE"),
    ]:
        assert main(command) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    for name, value in token(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert main(up) == 2
    assert "megacity keys create" in capsys.readouterr().err


async def test_the_ingress_refuses_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `serve deploy` would start it: without `megacity up`, which asks before."""
    from serve_app.app import Ingress

    monkeypatch.setenv("MEGACITY_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)

    class Alone(Ingress):
        def __del__(self) -> None:  # type: ignore[override]  # nobody awaits it here, as Serve would
            pass

    ingress = Alone.__new__(Alone)
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE"):
        await Ingress.__init__(ingress, settings().model_dump(mode="json"), {})
    await ingress.ledger.close()
    await ingress.store.close()
    await ingress.kv.close()


def test_keys_are_found_by_a_check_in_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db'}"

    async def make() -> None:
        async with opened(url, tmp_path) as keys:
            await keys.create(Grant("acme"))

    async def look() -> bool:
        async with opened(url, tmp_path) as keys:
            return await keys.any_live()

    asyncio.run(make())
    assert asyncio.run(look())
