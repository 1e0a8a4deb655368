"""`megacity simulate`: a trace under the fleet policy and under others, or a scenario of the plan."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.errors import ConfigError

if TYPE_CHECKING:
    from serve_app.simulator.run import SpotCap
    from serve_app.simulator.setup import Cfg
    from serve_app.simulator.trace import Trace

SCENARIOS = ("gpu", "storage", "llm", "network", "users")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", nargs="?", type=Path, help="CSV (or .csv.gz): t, engine, in_tokens, out_tokens")
    parser.add_argument("--scenario", choices=SCENARIOS, help="a scenario of the plan instead of a trace")
    parser.add_argument(
        "--setup", type=Path, metavar="FILE", help="engines, machines and prices as JSON (docs/fleet.md)"
    )
    parser.add_argument("--own-gpus", type=int, metavar="N", help="own GPUs (default: the setup's, 3)")
    parser.add_argument("--spot", default="market", metavar="FILE|market|all|none", help="spot instances to be had")
    parser.add_argument("--seed", type=int, default=1, help="of the made-up spot market (default: 1)")
    parser.add_argument("--alone", action="store_true", help="only our policy, nothing to compare with")
    parser.add_argument("--profile", metavar="NAME|FILE", help="whose router sends rows that name no engine")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="write the timeline of our policy")


def run(options: argparse.Namespace) -> Any:
    """The result, as data if `options.json` is set, else as text."""
    if options.scenario:
        return _scenario(options)
    if options.trace is None:
        raise ConfigError(f"give a trace, or --scenario {'|'.join(SCENARIOS)}")
    return _replayed(options)


def _scenario(options: argparse.Namespace) -> Any:
    from serve_app.simulator.scenarios import scenario

    found = scenario(options.scenario)
    return found.data() if options.json else found.text()


def _replayed(options: argparse.Namespace) -> Any:
    from serve_app.simulator.replay import OURS, POLICIES, TUNED, replay
    from serve_app.simulator.report import summary, table

    trace = _trace(options)
    outcomes = replay(trace, _setup(options, trace), _spot(options, trace), [OURS] if options.alone else POLICIES)
    results = {name: summary(outcome) for name, outcome in outcomes.items()}
    if options.picture:
        _draw(options.picture, outcomes[OURS], options.trace.name)
    if options.json:
        return {"trace": options.trace.name, "requests": len(trace), "notes": list(trace.notes), "policies": results}
    head = f"{options.trace.name}: {len(trace):,} requests in {trace.seconds / 3600:.1f} h"
    return table(results, OURS if options.alone else TUNED, [head, *trace.notes])


def _trace(options: argparse.Namespace) -> "Trace":
    from serve_app.simulator.trace import read_trace

    if not options.profile:
        return read_trace(options.trace)
    from serve_app.profile import load_profile
    from serve_app.simulator.routing import by_router

    settings = load_profile(options.profile).settings
    return read_trace(options.trace, by_router(settings.router(), settings.engines))


def _setup(options: argparse.Namespace, trace: "Trace") -> "Cfg":
    from serve_app.simulator.setup import checked, default_setup, read_setup

    cfg = read_setup(options.setup) if options.setup else default_setup(list(trace.engines))
    if options.own_gpus is not None:
        cfg = checked(cfg | {"own_gpus": options.own_gpus})
    missing = sorted(set(trace.engines) - set(cfg["engines"]))
    if missing:
        raise ConfigError(f"engines.{missing[0]} is missing from the setup, and the trace has requests for it")
    return cfg


def _spot(options: argparse.Namespace, trace: "Trace") -> "SpotCap":
    from serve_app.simulator.spot import market, read_spot

    if options.spot == "market":
        return market(trace.seconds, options.seed)
    if options.spot in ("all", "none"):
        return () if options.spot == "all" else ((0.0, 0),)
    return read_spot(Path(options.spot))


def _draw(path: Path, outcome: Any, name: str) -> None:
    from serve_app.simulator.picture import timeline

    try:
        path.write_text(timeline(outcome, f"{name}: ${outcome.total:,.2f}"))
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be written: {error.strerror}") from error
