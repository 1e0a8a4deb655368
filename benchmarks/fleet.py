"""The fleet policy against others, against who knew the trace, and against a lower bound.

`python -m benchmarks.fleet TRACE...` replays every trace with several numbers of own GPUs and several spot markets,
under every policy, in one run. `--save` writes the results and the chart. Figures are ratios of simulated costs.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from serve_app.simulator.bound import lower_bound
from serve_app.simulator.foresight import foresight
from serve_app.simulator.picture import timeline
from serve_app.simulator.replay import OURS, TUNED, replay
from serve_app.simulator.report import summary
from serve_app.simulator.run import SpotCap
from serve_app.simulator.setup import default_setup
from serve_app.simulator.spot import market
from serve_app.simulator.trace import Trace, read_trace

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "fleet.json"
CHART = HERE.parent / "docs" / "costs.svg"
WANTED = 0.5
"""Of the cost of Ray Serve at 70 % of the slots, on a trace of a day."""


def main() -> None:
    options = _arguments()
    rows = [row for path in options.traces for row in _rows(read_trace(path), path, options)]
    for row in rows:
        print(_line(row))
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"command": "python -m benchmarks.fleet", "runs": rows}, indent=1) + "\n")
    sys.exit(not all(row["policies"][OURS]["valid"] for row in rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--own", type=int, nargs="+", default=[3, 6], help="numbers of own GPUs")
    parser.add_argument("--spot", nargs="+", default=["1", "2", "none"], help="seeds of spot markets, all or none")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name} and {CHART.name}")
    return parser.parse_args()


def _rows(trace: Trace, path: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    return [_row(trace, path, own, spot, options.save) for own in options.own for spot in options.spot]


def _row(trace: Trace, path: Path, own: int, spot: str, save: bool) -> dict[str, Any]:
    cfg, caps = default_setup(list(trace.engines), own_gpus=own), _caps(spot, trace)
    began = time.perf_counter()
    outcomes = replay(trace, cfg, caps)
    took = time.perf_counter() - began
    if save and trace.seconds > 40_000 and not CHART.exists():
        CHART.write_text(timeline(outcomes[OURS], f"A day with {own} own GPUs: ${outcomes[OURS].total:,.0f}"))
    policies = {name: summary(outcome) for name, outcome in outcomes.items()}
    ours = policies[OURS]["cost_usd"]
    bound, known = lower_bound(trace, cfg, caps), foresight(trace, cfg, caps)
    return {
        "trace": path.name,
        "own_gpus": own,
        "spot": spot,
        "seconds": round(took, 1),
        "lower_bound_usd": round(bound, 4),
        "over_ray_tuned": round(ours / policies[TUNED]["cost_usd"], 3),
        "over_lower_bound": round(ours / bound, 3) if bound > 0 else None,
        "foresight_usd": round(known.total, 4) if known else None,
        "over_foresight": round(ours / known.total, 3) if known else None,
        "policies": policies,
    }


def _caps(spot: str, trace: Trace) -> SpotCap:
    if spot in ("all", "none"):
        return () if spot == "all" else ((0.0, 0),)
    return market(trace.seconds, int(spot))


def _line(row: dict[str, Any]) -> str:
    ours = row["policies"][OURS]
    levels = " ".join(f"{name} {engine['attainment']:.2%}" for name, engine in ours["engines"].items())
    word = "valid " if ours["valid"] else "MISSED"
    good = [name for name, policy in row["policies"].items() if policy["valid"] and name != OURS]
    return (
        f"{row['trace']:<28} own {row['own_gpus']} spot {row['spot']:<5} {word} ${ours['cost_usd']:>7.2f} "
        f"{row['over_ray_tuned']:.2f} x Ray tuned, {row['over_foresight']} x foresight, "
        f"{row['over_lower_bound']} x bound; {levels}; "
        f"others valid: {', '.join(good) or 'none'}; {row['seconds']} s"
    )


if __name__ == "__main__":
    main()
