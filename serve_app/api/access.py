"""Finds out who calls, for every door: from the key that came along, or from where the service listens."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import replace

from starlette.datastructures import Headers

from serve_app.errors import Unauthorized
from serve_app.policies import access
from serve_app.policies.access import AccessRules
from serve_app.services.keys import Key, Keys, Recent
from serve_app.services.rates import Rates
from serve_app.types import Caller


class Access:
    """`keys` may be missing where callers need none; `hosts` are names of our own, beside those of the rules."""

    def __init__(
        self, rules: AccessRules, keys: Keys | None = None, rates: Rates | None = None, hosts: Iterable[str] = ()
    ) -> None:
        self.rules = rules
        self.keys = keys
        self.rates = rates or Rates()
        self._recent = Recent(keys) if keys else None
        self._hosts = frozenset([*rules.hosts, *hosts])

    async def caller(self, authorization: Sequence[str]) -> Caller:
        """Who sent these `Authorization` headers. Raises `Unauthorized`, or `Unavailable` if keys cannot be checked."""
        if authorization:
            return self._limited(await self._owner(authorization))
        if not self.rules.anonymous:
            raise Unauthorized("A key is required. Send it as 'Authorization: Bearer KEY'.", code="missing_api_key")
        return self._limited(access.LOCAL)

    def refuse_strangers(self, headers: Headers) -> None:
        """Raises `Forbidden` for what another site made a browser send, where callers need no key."""
        if self.rules.anonymous:
            access.refuse_strangers(headers.getlist("host"), headers, self._hosts)

    async def _owner(self, authorization: Sequence[str]) -> Caller:
        scheme, _, secret = authorization[0].strip().partition(" ")
        secret = secret.strip()
        if len(authorization) == 1 and scheme.casefold() == "bearer":
            ready = self._ready(secret)
            key = await self._recent.find(secret) if self._recent and not ready else None
            if found := ready or (_owner_of(key) if key else None):
                return found
        raise Unauthorized("This key is not known, or no longer in force. Send another as 'Authorization: Bearer KEY'.")

    def _ready(self, secret: str) -> Caller | None:
        """The owner of a ready key: as good as none, so they are for where none is needed."""
        if not self.rules.anonymous:
            return None
        sent = secret.encode()
        matches = [caller for key, caller in access.READY_KEYS.items() if hmac.compare_digest(key.encode(), sent)]
        return matches[0] if matches else None

    def _limited(self, caller: Caller) -> Caller:
        return replace(
            caller,
            requests_per_minute=caller.requests_per_minute or self.rules.requests_per_minute,
            tokens_per_minute=caller.tokens_per_minute or self.rules.tokens_per_minute,
        )


def _owner_of(key: Key) -> Caller:
    grant = key.grant
    return Caller(
        tenant=grant.tenant,
        tier=grant.tier,
        zones=grant.zones,
        key=key.id,
        scopes=frozenset(grant.scopes),
        requests_per_minute=grant.requests_per_minute,
        tokens_per_minute=grant.tokens_per_minute,
        budget_nano_usd=grant.budget_nano_usd,
    )
