"""The `megacity` command. Nothing heavy is imported before a command needs it."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from serve_app.errors import ConfigError, MegaCityError

if TYPE_CHECKING:
    from serve_app.types import Job

DEFAULT_URL = "http://127.0.0.1:8000"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: it failed; 2: the command line or the profile is wrong."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        print(f"megacity: {error}", file=sys.stderr)
        return 2
    except MegaCityError as error:
        print(f"megacity: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="megacity", description="One router in front of every engine, on Ray Serve.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_up,
        _add_demo,
        _add_check,
        _add_route,
        _add_status,
        _add_keys,
        _add_costs,
        _add_models,
        _add_quantize,
        _add_simulate,
        _add_agent,
    ):
        add(commands)
    return parser


def _add_up(commands: Any) -> None:
    up = _command(commands, "up", _up, "start a service and stay until Ctrl-C")
    up.add_argument("--profile", default="embedded", metavar="NAME|FILE", help="a profile (default: embedded)")
    up.add_argument("--host", help="where to listen (default: the profile's)")
    up.add_argument("--port", type=int, help="HTTP port (default: the profile's, 8000)")
    up.add_argument("--grpc-port", type=int, help="gRPC port (default: the profile's, 9000)")
    up.add_argument("--dashboard-port", type=int, default=8265, help="Ray dashboard (default: 8265, or any free one)")
    up.add_argument("--address", help="deploy on a Ray cluster that is there (HOST:PORT or auto)")


def _add_demo(commands: Any) -> None:
    demo = _command(commands, "demo", _demo, "send one real request to every engine of a running service")
    demo.add_argument("--url", default=DEFAULT_URL)
    demo.add_argument("--key", help="an API key (default: MEGACITY_API_KEY, or none)")


def _add_check(commands: Any) -> None:
    check = _command(commands, "check", _check, "check a profile without starting anything")
    check.add_argument("profile", metavar="NAME|FILE")
    check.add_argument("--gpu", metavar="CARD", help="the cards of the on-prem nodes, such as 'RTX 5090'")
    check.add_argument("--gpus", type=int, metavar="N", help="how many of them a node has")


def _add_route(commands: Any) -> None:
    route = _command(commands, "route", _route, "show which model a request would go to, and why")
    route.add_argument("text")
    route.add_argument("--profile", default="embedded", metavar="NAME|FILE")
    for wish in ("model", "zone", "task", "locale", "template"):
        route.add_argument(f"--{wish}")
    route.add_argument("--tier", choices=("premium", "standard", "batch"), default="standard")


def _add_status(commands: Any) -> None:
    status = _command(commands, "status", _status, "show a running service: engines, addresses, memory")
    status.add_argument("--url", default=DEFAULT_URL)
    status.add_argument("--head", metavar="HOST:PORT", help="the Ray cluster's head: show its machines and the fleet")


def _add_keys(commands: Any) -> None:
    from serve_app.commands.keys import add_actions

    keys = _command(commands, "keys", _keys, "create, list, rotate and revoke API keys")
    keys.add_argument("--profile", default="embedded", metavar="NAME|FILE", help="whose store (default: embedded)")
    add_actions(keys)


def _add_models(commands: Any) -> None:
    from serve_app.commands.models import add_actions

    models = _command(commands, "models", _models, "show and switch the versions of models")
    models.add_argument("--profile", default="embedded", metavar="NAME|FILE", help="whose store (default: embedded)")
    add_actions(models)


def _add_quantize(commands: Any) -> None:
    from serve_app.commands.quantize import add_options

    add_options(_command(commands, "quantize", _quantize, "make a smaller checkpoint, and measure what it costs"))


def _add_agent(commands: Any) -> None:
    from serve_app.commands.agent import add_options

    add_options(_command(commands, "agent", _agent, "watch this machine, and drain it before it goes"))


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str) -> Any:
    command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=run)
    return command


def _up(options: argparse.Namespace) -> int:
    from serve_app.launcher import up
    from serve_app.profile import load_profile

    ingress = {
        "http": {"host": options.host, "port": options.port},
        "grpc": {"host": options.host, "port": options.grpc_port},
    }
    profile = load_profile(options.profile, {"ingress": _given(ingress)})

    def say(text: str) -> None:
        print(json.dumps({"message": text}, ensure_ascii=False) if options.json else text, flush=True)

    return up(profile, options.address, options.dashboard_port, say)


def _given(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Only what was really given on the command line; the rest stays the profile's."""
    return {key: {k: v for k, v in inner.items() if v is not None} for key, inner in values.items()}


def _check(options: argparse.Namespace) -> int:
    from serve_app.commands.check import run
    from serve_app.profile import load_profile

    profile = load_profile(options.profile)
    result, problem = run(options, profile)
    _print_json(result) if options.json else print(result)
    if problem:
        print(f"megacity: {profile.path.name}: {problem}", file=sys.stderr)
    return 2 if problem else 0


def _route(options: argparse.Namespace) -> int:
    from serve_app.profile import load_profile

    settings = load_profile(options.profile).settings
    candidate = settings.router().decide(_job(options), dict.fromkeys(settings.engines, "ready"))[0]
    decision = candidate.decision
    if options.json:
        from dataclasses import asdict

        _print_json(asdict(decision) | {"priority": decision.priority.name.lower()})
        return 0
    print(f"{decision.model}@{decision.version} on engine {decision.engine} ({decision.node_class})")
    print(f"  template      {decision.template or '-'}")
    print(f"  because       {'; '.join(decision.reasons)}")
    print(f"  alternatives  {', '.join(decision.alternatives) or '-'}")
    return 0


def _job(options: argparse.Namespace) -> "Job":
    from serve_app.types import Caller, Chat, Constraints, Job, Kind, Message, Priority, Wish

    priority = Priority[options.tier.upper()]
    return Job(
        id="route",
        kind=Kind.CHAT,
        payload=Chat((Message("user", options.text),)),
        caller=Caller(tier=priority),
        wish=Wish(options.model or "auto", options.zone, options.task, options.locale, options.template),
        constraints=Constraints(priority),
    )


def _status(options: argparse.Namespace) -> int:
    from serve_app.services.processes import tree

    state = _readiness(options.url)
    running = _remembered(options.url)
    if running is not None:
        state["addresses"] = {"url": running.url, "grpc": running.grpc, "dashboard": running.dashboard}
        state["processes"] = [{"name": p.name, "pid": p.pid, "pss_mb": round(p.pss_mb, 1)} for p in tree(running.pid)]
    if options.head:
        from serve_app.cluster.report import cluster, lines

        state["cluster"] = cluster(options.head)
    if options.json:
        _print_json(state)
        return 0 if state["status"] == "ready" else 1
    print(f"{options.url}: {state['status']}")
    for engine, health in state["engines"].items():
        print(f"  {engine:<14} {health}")
    for line in lines(state["cluster"]) if options.head else ():
        print(line)
    for process in state.get("processes", []):
        print(f"  {process['name']:<34} {process['pss_mb']:>8.1f} MB")
    return 0 if state["status"] == "ready" else 1


def _add_simulate(commands: Any) -> None:
    from serve_app.commands.simulate import add_options

    add_options(_command(commands, "simulate", _simulate, "replay a trace through the fleet policy, or a scenario"))


def _simulate(options: argparse.Namespace) -> int:
    from serve_app.commands.simulate import run

    result = run(options)
    _print_json(result) if options.json else print(result)
    return 0


def _add_costs(commands: Any) -> None:
    from serve_app.commands.costs import add_options

    costs = _command(commands, "costs", _costs, "show what requests have used and cost")
    costs.add_argument("--profile", default="embedded", metavar="NAME|FILE", help="whose store (default: embedded)")
    add_options(costs)


def _costs(options: argparse.Namespace) -> int:
    from serve_app.commands.costs import run
    from serve_app.profile import load_profile

    result = run(options, load_profile(options.profile).settings)
    _print_json(result) if options.json else print(result)
    return 0


def _keys(options: argparse.Namespace) -> int:
    from serve_app.commands.keys import run
    from serve_app.profile import load_profile

    result = run(options, load_profile(options.profile).settings)
    _print_json(result) if options.json else print(result)
    return 0


def _models(options: argparse.Namespace) -> int:
    from serve_app.commands.models import run
    from serve_app.profile import load_profile

    result = run(options, load_profile(options.profile).settings)
    _print_json(result) if options.json else print(result)
    return 0


def _quantize(options: argparse.Namespace) -> int:
    from serve_app.commands.quantize import run

    result = run(options)
    _print_json(result) if options.json else print(result)
    return 0


def _agent(options: argparse.Namespace) -> int:
    from serve_app.commands.agent import run

    result = run(options)
    _print_json(result) if options.json else print(result["ended"])
    return 0


def _readiness(url: str) -> dict[str, Any]:
    import httpx

    try:
        state: dict[str, Any] = httpx.get(f"{url}/readyz", timeout=5).json()
    except (httpx.HTTPError, ValueError) as error:
        raise ConfigError(
            f"no service answers at {url} ({type(error).__name__}); start one with `megacity up`"
        ) from error
    return state


def _remembered(url: str) -> Any:
    from urllib.parse import urlsplit

    from serve_app.launcher import remembered

    return remembered(urlsplit(url).port or 80)


def _demo(options: argparse.Namespace) -> int:
    import asyncio

    from serve_app.demo import demo

    results = asyncio.run(demo(options.url, options.key or os.environ.get("MEGACITY_API_KEY"), quiet=options.json))
    if options.json:
        _print_json(results)
    return 1 if any(result["ok"] is False for result in results) else 0


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    sys.exit(main())
