"""What a page of another site makes a browser on this machine send (CSRF, DNS rebinding) is refused."""

import pytest

from serve_app.policies.access import AccessRules, is_loopback
from tests.guard.conftest import House, ask

HERE = "127.0.0.1:8000"
OURS = [
    {"host": HERE},
    {"host": "localhost:8000"},
    {"host": "[::1]:8000"},
    {"host": "app.localhost"},
    {"host": "Campus.Example:80"},
    {"host": "eu.campus.example"},
    {"host": "my.box"},
    {"host": HERE, "origin": f"http://{HERE}", "sec-fetch-site": "same-origin"},
    {"host": "campus.example", "origin": "https://campus.example"},
    {"host": HERE, "sec-fetch-site": "none"},
]
THEIRS = [
    {"host": "evil.example"},
    {"host": "evil.example:8000", "origin": "http://evil.example:8000", "sec-fetch-site": "same-origin"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "localhost.evil.example:8000"},
    {"host": "notcampus.example"},
    {"host": "localhost@evil.example"},
    {"host": "169.254.169.254"},
    {"host": "0.0.0.0:8000"},
    {"host": HERE, "origin": "https://evil.example"},
    {"host": HERE, "origin": "null"},
    {"host": HERE, "origin": ""},
    {"host": HERE, "origin": "http://127.0.0.1:3000"},
    {"host": HERE, "origin": "http://127.0.0.1:8000@evil.example"},
    {"host": HERE, "origin": "http://localhost:8000.evil.example"},
    {"host": HERE, "sec-fetch-site": "cross-site"},
    {"host": HERE, "sec-fetch-site": "Cross-Site", "authorization": "Bearer sk-local-premium"},
]
RULES = AccessRules(anonymous=True, hosts=("my.box",))


async def test_ours(house: House) -> None:
    async with house.door(RULES) as client:
        for headers in OURS:
            assert (await client.get("/v1/models", headers=headers)).status_code == 200, headers


async def test_theirs(house: House) -> None:
    async with house.door(RULES) as client:
        for headers in THEIRS:
            for path in ("/v1/models", "/healthz", "/docs"):
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 403, headers
                assert answer.json()["error"]["code"] == "foreign_origin"
        preflight = await client.options("/v1/models", headers={"origin": "https://evil.example"})
        assert preflight.status_code == 403
        assert "access-control-allow-origin" not in preflight.headers


async def test_where_keys_are_needed_names_do_not_matter(house: House) -> None:
    """A browser sends no key by itself, so there is nothing to abuse, and proxies may use any name."""
    secret = await house.key()
    async with house.door() as client:
        client.headers["host"] = "anything.example"
        assert (await ask(client, secret)).status_code == 200
        assert (await ask(client)).status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST.", "a.localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "", "localhost.example", "127.1.example", "2130706433", "::ffff:8.8.8.8"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
