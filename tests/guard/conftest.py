"""A service without engines behind real keys: a store of its own, the guard stage, and both doors."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from serve_app.api import http
from serve_app.api.access import Access
from serve_app.api.service import Service
from serve_app.policies.access import AccessRules
from serve_app.services.keys import Grant, Keys
from serve_app.services.rates import Rates
from serve_app.services.store import Store
from serve_app.stages.guard import guard
from tests.api.stub import Stub
from tests.client.conftest import listening

SERVER_SECRET = b"0123456789abcdef0123456789abcdef"

KEYS_NEEDED = AccessRules()


@dataclass
class House:
    """A guarded stub. `key` makes a key and gives its secret."""

    stub: Stub
    keys: Keys
    database: Path
    rates: Rates

    def service(self, rules: AccessRules = KEYS_NEEDED) -> Service:
        access = Access(rules, self.keys, self.rates, ["campus.example"])
        return replace(self.stub.service(), run=guard(self.rates)(self.stub.run), access=access)

    async def key(self, tenant: str = "acme", **allowed: object) -> str:
        _, secret = await self.keys.create(Grant(tenant, **allowed))  # type: ignore[arg-type]
        return secret

    @contextlib.asynccontextmanager
    async def door(self, rules: AccessRules = KEYS_NEEDED) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            listening(http.build(self.service(rules))) as url,
            httpx.AsyncClient(base_url=url, timeout=10) as client,
        ):
            yield client


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = tmp_path / "megacity.db"
    store = Store(f"sqlite:///{database}")
    yield House(Stub(), Keys(store, SERVER_SECRET), database, Rates())
    await store.close()


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def ask(client: httpx.AsyncClient, secret: str | None = None, **body: object) -> httpx.Response:
    """One chat request."""
    chat = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **body}
    return await client.post("/v1/chat/completions", json=chat, headers=bearer(secret) if secret else {})
