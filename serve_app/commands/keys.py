"""`megacity keys`: create, list, rotate and revoke keys, straight in the store of a profile."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.config import Settings
    from serve_app.services.keys import Keys

DAY_S = 86_400

Action = Callable[["Keys", argparse.Namespace, "Settings"], Awaitable[dict[str, Any]]]


def add_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and show its secret, once")
    create.add_argument("--tenant", required=True)
    create.add_argument("--name", help="what people call it")
    create.add_argument("--tier", choices=("premium", "standard", "batch"))
    create.add_argument("--zone", action="append", dest="zones", help="repeat for several; none is every zone")
    create.add_argument("--scope", action="append", dest="scopes", help="repeat for several (default: inference)")
    create.add_argument("--rpm", type=int, dest="requests_per_minute", help="requests a minute")
    create.add_argument("--tpm", type=int, dest="tokens_per_minute", help="tokens a minute")
    create.add_argument("--budget-usd", type=float)
    create.add_argument("--days", type=int, help="how long it is in force (default: until it is revoked)")
    actions.add_parser("list", help="show every key, without secrets")
    rotate = actions.add_parser("rotate", help="make a key that allows the same, and end this one")
    rotate.add_argument("id")
    rotate.add_argument("--overlap", type=int, default=0, metavar="SECONDS", help="keep the old one in force so long")
    actions.add_parser("revoke", help="end a key, within five seconds everywhere").add_argument("id")


def run(options: argparse.Namespace, settings: "Settings") -> Any:
    """What the action has to tell, as data if `options.json` is set, else as text."""
    from serve_app.services.home import home
    from serve_app.services.keys import opened

    async def act() -> dict[str, Any]:
        async with opened(settings.store.url, home()) as keys:
            return await ACTIONS[options.action](keys, options, settings)

    told = asyncio.run(act())
    return told if options.json else _text(told)


async def _create(keys: "Keys", options: argparse.Namespace, settings: "Settings") -> dict[str, Any]:
    from pydantic import ValidationError

    from serve_app.api import admin, validation, wire

    names = [name for name in wire.KeyRequest.model_fields if name != "expires_in_s"]
    body = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.days is not None:
        body["expires_in_s"] = options.days * DAY_S
    try:
        request = wire.KeyRequest.model_validate(body)
    except ValidationError as error:
        raise validation.bad_request(error.errors(), body) from None
    key, secret = await keys.create(admin.grant(request, settings.routing.zones))
    return {**admin.card(key), "secret": secret}


async def _list(keys: "Keys", _: argparse.Namespace, __: "Settings") -> dict[str, Any]:
    from serve_app.api.admin import card

    return {"data": [card(key) for key in await keys.list()]}


async def _rotate(keys: "Keys", options: argparse.Namespace, _: "Settings") -> dict[str, Any]:
    from serve_app.api.admin import card

    key, secret = await keys.rotate(options.id, options.overlap)
    return {**card(key), "secret": secret}


async def _revoke(keys: "Keys", options: argparse.Namespace, _: "Settings") -> dict[str, Any]:
    from serve_app.api.admin import card

    return card(await keys.revoke(options.id))


ACTIONS: Mapping[str, Action] = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke}


def _text(told: Mapping[str, Any]) -> str:
    lines = [_line(key) for key in told.get("data", [told])]
    if "secret" in told:
        lines.append(f"{told['secret']}   (shown this once; keep it where secrets are kept)")
    return "\n".join(lines) or "no keys yet; make one with `megacity keys create --tenant NAME`"


def _line(key: Mapping[str, Any]) -> str:
    zones = ",".join(key["zones"]) or "every zone"
    state = "in force" if key["in_force"] else "ended"
    return (
        f"{key['id']}  {key['prefix']}…  {key['tenant']:<16} {key['tier']:<9} {zones}  "
        f"{','.join(key['scopes'])}  {state}  {key['name']}".rstrip()
    )
