"""The keys themselves, for callers with the scope `admin`."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from serve_app import logs
from serve_app.api import answers, wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import Call, InCall, TheService, needs
from serve_app.api.docs import ERRORS
from serve_app.errors import BadRequest, Unavailable
from serve_app.policies.access import SCOPES
from serve_app.services.keys import Grant, Key, Keys
from serve_app.types import Priority

router = APIRouter(prefix="/api/v1/admin/keys", tags=["Keys"], responses=ERRORS, dependencies=[needs("admin")])

NANO = 1_000_000_000


async def keys_of(service: TheService) -> Keys:
    if service.access.keys is None:
        raise Unavailable("This service keeps no keys.")
    return service.access.keys


TheKeys = Annotated[Keys, Depends(keys_of)]


@router.post("", status_code=201, openapi_extra=takes(wire.KeyRequest))
async def create_key(
    body: Annotated[wire.KeyRequest, Depends(json_body(wire.KeyRequest))],
    keys: TheKeys,
    call: InCall,
    service: TheService,
) -> answers.NewKey:
    """Make a key. The answer is the only place where its secret ever stands."""
    key, secret = await keys.create(grant(body, service.router.tables.zones))
    return _told("key_created", key, secret, call)


@router.get("")
async def list_keys(keys: TheKeys) -> answers.KeyList:
    """Every key, the newest first, also those that are no longer in force."""
    return answers.KeyList(data=[answers.KeyCard(**card(key)) for key in await keys.list()])


@router.post("/{key_id}/rotate", status_code=201, openapi_extra=takes(wire.RotateRequest))
async def rotate_key(
    key_id: str,
    body: Annotated[wire.RotateRequest, Depends(json_body(wire.RotateRequest))],
    keys: TheKeys,
    call: InCall,
) -> answers.NewKey:
    """Make a key that allows the same, and end the old one, at once or after an overlap."""
    key, secret = await keys.rotate(key_id, body.overlap_s)
    return _told("key_rotated", key, secret, call)


@router.delete("/{key_id}")
async def revoke_key(key_id: str, keys: TheKeys, call: InCall) -> answers.KeyCard:
    """End a key. Within five seconds no replica takes it any more; a run that has begun is finished."""
    key = await keys.revoke(key_id)
    _audit("key_revoked", key, call)
    return answers.KeyCard(**card(key))


def grant(body: wire.KeyRequest, zones: Mapping[str, object]) -> Grant:
    """What a checked body asks for. Raises `BadRequest` for scopes and zones that there are not."""
    _known(body.scopes, SCOPES, "scopes")
    _known(body.zones, zones, "zones")
    return Grant(
        tenant=body.tenant,
        name=body.name,
        tier=Priority[body.tier.upper()],
        zones=tuple(body.zones),
        scopes=tuple(body.scopes),
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
        budget_nano_usd=None if body.budget_usd is None else round(body.budget_usd * NANO),
        expires=None if body.expires_in_s is None else time.time() + body.expires_in_s,
    )


def card(key: Key) -> dict[str, Any]:
    """What may be told of a key, as `answers.KeyCard` has it."""
    allowed = key.grant
    budget = allowed.budget_nano_usd
    return {
        "id": key.id,
        "prefix": key.prefix,
        "tenant": allowed.tenant,
        "name": allowed.name,
        "tier": answers.PRIORITY_NAMES[allowed.tier],
        "zones": list(allowed.zones),
        "scopes": list(allowed.scopes),
        "requests_per_minute": allowed.requests_per_minute,
        "tokens_per_minute": allowed.tokens_per_minute,
        "budget_usd": None if budget is None else budget / NANO,
        "created": int(key.created),
        "expires": None if allowed.expires is None else int(allowed.expires),
        "revoked": None if key.revoked is None else int(key.revoked),
        "in_force": key.live(time.time()),
    }


def _known(names: Sequence[str], known: Iterable[str], param: str) -> None:
    there = list(known)
    unknown = next((index for index, name in enumerate(names) if name not in there), None)
    if unknown is not None:
        raise BadRequest(f"'{param}.{unknown}' should be one of {', '.join(there)}.", param=f"{param}.{unknown}")


def _told(event: str, key: Key, secret: str, call: Call) -> answers.NewKey:
    _audit(event, key, call)
    return answers.NewKey(**card(key), secret=secret)


def _audit(event: str, key: Key, call: Call) -> None:
    """Who did what to which key, beside the request's id and trace."""
    logs.event(event, key=key.id, tenant=key.grant.tenant, by=call.caller.key or call.caller.tenant)
