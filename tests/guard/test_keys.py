"""The life of a key, and what is left of it where it is stored."""

import asyncio
import hashlib
import hmac
import inspect
import time
from pathlib import Path

import pytest

from serve_app.errors import ConfigError, NotFound
from serve_app.services import keys as keys_module
from serve_app.services.keys import REMEMBERED, Grant, Recent, server_secret
from tests.guard.conftest import SERVER_SECRET, House, ask, bearer


async def test_create_find_list(house: House) -> None:
    grant = Grant("acme", "ci", zones=("campus",), scopes=("chat",), requests_per_minute=5, budget_nano_usd=7)
    key, secret = await house.keys.create(grant)
    assert secret.startswith("sk-mc-")
    assert len(secret) == 49
    assert (await house.keys.find(secret)) == key
    assert key.grant == grant
    assert [listed.id for listed in await house.keys.list()] == [key.id]
    assert key.prefix == secret[:10]


async def test_only_a_keyed_hash_is_stored(house: House) -> None:
    _, secret = await house.keys.create(Grant("acme"))
    raw = b"".join(path.read_bytes() for path in house.database.parent.iterdir())
    assert hmac.digest(SERVER_SECRET, secret.encode(), hashlib.sha256).hex().encode() in raw
    for part in (secret, secret.removeprefix("sk-mc-"), secret[10:]):
        assert part.encode() not in raw
    assert hashlib.sha256(secret.encode()).hexdigest().encode() not in raw


async def test_rotation_with_and_without_overlap(house: House) -> None:
    old, old_secret = await house.keys.create(Grant("acme", scopes=("chat",)))
    new, new_secret = await house.keys.rotate(old.id, overlap_s=60)
    assert new.grant == old.grant
    found = [await house.keys.find(secret) for secret in (old_secret, new_secret)]
    assert [key.live(time.time()) for key in found if key] == [True, True]
    assert not (found[0] and found[0].live(time.time() + 61))
    await house.keys.rotate(new.id)
    ended = await house.keys.find(new_secret)
    assert ended is not None
    assert not ended.live(time.time())
    with pytest.raises(NotFound):
        await house.keys.rotate(new.id)


async def test_revocation_reaches_a_running_door_within_five_seconds(house: House) -> None:
    secret = await house.key()
    (key,) = await house.keys.list()
    async with house.door() as client:
        assert (await ask(client, secret)).status_code == 200
        await house.keys.revoke(key.id)  # as another replica would: this door is not told
        started = time.monotonic()
        while (await ask(client, secret)).status_code == 200:
            await asyncio.sleep(0.1)
        assert time.monotonic() - started < 5


async def test_an_expired_key_is_refused_at_once(house: House) -> None:
    now = time.time()
    secret = await house.key(expires=now + 60)
    clock = [now]
    recent = Recent(house.keys, lambda: clock[0])
    assert await recent.find(secret)
    clock[0] = now + 61
    assert await recent.find(secret) is None


async def test_unknown_keys_are_remembered_but_push_nothing_out(house: House) -> None:
    secret = await house.key()
    recent = Recent(house.keys)
    assert await recent.find(secret)
    for number in range(REMEMBERED + 10):
        recent._remember(str(number), (time.time(), None))
    assert len(recent._unknown) == REMEMBERED
    assert len(recent._found) == 1


async def test_an_unknown_key_does_not_stand_in_the_way_of_a_new_one(house: House) -> None:
    recent = Recent(house.keys)
    assert await recent.find("sk-mc-" + "x" * 43) is None
    assert await recent.find(await house.key())


def test_secrets_are_compared_in_constant_time() -> None:
    source = inspect.getsource(keys_module.Keys.find)
    assert "hmac.compare_digest" in source


def test_the_server_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = server_secret(home, {})
    assert server_secret(home, {}) == first
    assert len(first) == 64
    file = home / "key-secret"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == ["key-secret"]
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        server_secret(home, {})
    assert server_secret(home, {"MEGACITY_KEY_SECRET": "e" * 32}) == b"e" * 32
    with pytest.raises(ConfigError, match="shorter"):
        server_secret(home, {"MEGACITY_KEY_SECRET": "e" * 31})


async def test_admin_routes(house: House) -> None:
    admin, plain = await house.key("ops", scopes=("admin",)), await house.key()
    async with house.door() as client:
        made = await client.post(
            "/api/v1/admin/keys", json={"tenant": "shop", "zones": ["campus"], "budget_usd": 1.5}, headers=bearer(admin)
        )
        assert made.status_code == 201
        body = made.json()
        assert body["budget_usd"] == 1.5
        assert (await ask(client, body["secret"])).status_code == 200
        listed = await client.get("/api/v1/admin/keys", headers=bearer(admin))
        assert body["secret"] not in listed.text
        assert {key["tenant"] for key in listed.json()["data"]} == {"ops", "acme", "shop"}
        rotated = await client.post(f"/api/v1/admin/keys/{body['id']}/rotate", json={}, headers=bearer(admin))
        assert rotated.status_code == 201
        gone = await client.delete(f"/api/v1/admin/keys/{rotated.json()['id']}", headers=bearer(admin))
        assert not gone.json()["in_force"]
        again = await client.delete(f"/api/v1/admin/keys/{rotated.json()['id']}", headers=bearer(admin))
        assert again.status_code == 404
        for method, path in [("GET", ""), ("POST", ""), ("DELETE", "/x"), ("POST", "/x/rotate"), ("HEAD", "")]:
            refused = await client.request(method, f"/api/v1/admin/keys{path}", headers=bearer(plain), json={})
            assert refused.status_code == 403
            assert (await client.request(method, f"/api/v1/admin/keys{path}", json={})).status_code == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"tenant": "a", "scopes": ["root"]}, "scopes.0"),
        ({"tenant": "a", "zones": ["nowhere"]}, "zones.0"),
        ({"tenant": "a", "budget_usd": -1}, "budget_usd"),
        ({"tenant": "a", "requests_per_minute": 0}, "requests_per_minute"),
        ({"tenant": "a", "expire_in_s": 5}, "expire_in_s"),
    ],
)
async def test_a_key_that_cannot_be_meant(house: House, body: dict[str, object], param: str) -> None:
    admin = await house.key(scopes=("admin",))
    async with house.door() as client:
        answer = await client.post("/api/v1/admin/keys", json=body, headers=bearer(admin))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
