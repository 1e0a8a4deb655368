"""`megacity models`: which version of a model is in force, straight in the store of a profile."""

import argparse
import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.config import Settings
    from serve_app.services.versions import Registry, State


def add_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show every model's versions")
    activate = actions.add_parser("activate", help="send every new request to this version")
    canary = actions.add_parser("canary", help="send a share of the callers to this version; 0 ends it")
    for action in (activate, canary):
        action.add_argument("model")
        action.add_argument("version")
    canary.add_argument("share", type=float, help="from 0 to 1")
    actions.add_parser("rollback", help="end the canary, or return to the version before").add_argument("model")


def run(options: argparse.Namespace, settings: "Settings") -> Any:
    """What is in force after the action, as data if `options.json` is set, else as text."""
    states = asyncio.run(_act(options, settings))
    return [asdict(state) for state in states] if options.json else "\n".join(map(_line, states))


async def _act(options: argparse.Namespace, settings: "Settings") -> "list[State]":
    from serve_app.services.store import Store
    from serve_app.services.versions import Registry

    store = Store(settings.store.url)
    try:
        return await _do(Registry(store, settings.versions()), options)
    finally:
        await store.close()


async def _do(registry: "Registry", options: argparse.Namespace) -> "list[State]":
    match options.action:
        case "activate":
            return [await registry.activate(options.model, options.version)]
        case "canary":
            return [await registry.canary(options.model, options.version, options.share)]
        case "rollback":
            return [await registry.rollback(options.model)]
    return await registry.states()


def _line(state: "State") -> str:
    others = ", ".join(version for version in state.versions if version != state.active)
    canary = f"   canary {state.canary} for {state.share:.0%}" if state.canary else ""
    return f"{state.model:<28} active {state.active:<8} others {others or '-'}{canary}"
