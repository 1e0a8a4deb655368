"""What a simulation says, as data and as text."""

import math
from collections.abc import Iterable
from typing import Any

from serve_app.simulator.run import POOLS, Outcome

NEEDED = 0.95
"""The share of an engine's requests that have to start within its `wait`."""


def summary(outcome: Outcome) -> dict[str, Any]:
    """Cost in dollars by pool, and per engine attainment and waits in seconds."""
    engines = {name: _engine(outcome, name) for name in outcome.waits}
    return {
        "cost_usd": round(outcome.total, 4),
        "by_pool_usd": {pool: round(sum(c[pool] for c in outcome.cost.values()), 4) for pool in POOLS},
        "hours": {pool: round(sum(h[pool] for h in outcome.hours.values()), 2) for pool in POOLS},
        "valid": all(engine["attainment"] >= NEEDED for engine in engines.values()),
        "scale_events": sum(sum(started.values()) for started in outcome.started.values()),
        "spot_lost": outcome.lost,
        "restarted_requests": outcome.restarts,
        "engines": engines,
    }


def _engine(outcome: Outcome, name: str) -> dict[str, Any]:
    waits = sorted(outcome.waits[name])
    return {
        "requests": len(waits),
        "unserved": sum(math.isinf(wait) for wait in waits),
        "attainment": round(outcome.attainment(name), 5),
        "wait_limit_s": outcome.cfg["engines"][name]["wait"],
        "wait_p50_s": _quantile(waits, 0.50),
        "wait_p95_s": _quantile(waits, 0.95),
        "cost_usd": {pool: round(usd, 4) for pool, usd in outcome.cost[name].items()},
        "started": outcome.started[name],
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    """None if it is not a number of seconds: no requests, or so many were never served."""
    if not ordered:
        return None
    value = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return None if math.isinf(value) else round(value, 3)


def table(results: dict[str, dict[str, Any]], base: str, notes: Iterable[str] = ()) -> str:
    """One line per policy and one per engine of it. `base` is the policy that costs are compared with."""
    lines = [*notes, f"{'policy':<24} {'cost $':>10} {'own':>8} {'spot':>8} {'demand':>9} {'x':>6}  level  starts"]
    for name, result in results.items():
        pools = result["by_pool_usd"]
        times = result["cost_usd"] / results[base]["cost_usd"] if results[base]["cost_usd"] else math.nan
        word = "met" if result["valid"] else "MISSED"
        lines.append(
            f"{name:<24} {result['cost_usd']:>10.2f} {pools['own']:>8.2f} {pools['spot']:>8.2f} {pools['od']:>9.2f}"
            f" {times:>6.2f}  {word:<6} {result['scale_events']:>6}"
        )
        lines += [_engine_line(engine, row) for engine, row in result["engines"].items()]
    return "\n".join(lines)


def _engine_line(name: str, row: dict[str, Any]) -> str:
    p50, p95 = ("never" if wait is None else f"{wait:.1f} s" for wait in (row["wait_p50_s"], row["wait_p95_s"]))
    good = f"{row['attainment']:.2%} within {row['wait_limit_s']:g} s"
    return f"  {name:<22} {row['requests']:>10,} requests, {good}, wait p50 {p50}, p95 {p95}"
