"""What happens at ten times the load that the engine can carry, when one request in twenty is from a premium key.

`python -m benchmarks.overload` measures a service with a small fake engine alone and at its capacity, then sends
requests at random times at ten times that rate, whatever becomes of them, and afterwards one at a time again.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Answer, Ask, Found, Load
from benchmarks.overhead import HERE, PATH, Candidate, described, megacity, percentile

RESULTS = HERE / "results" / "overload.json"
SLOTS = 8
TIMES = 10
PREMIUM = 0.05
NORMAL_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, and what it should be."""

    name: str
    value: float
    wanted: str
    met: bool


def main() -> None:
    options = _arguments()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overload-")))
        service = megacity(stack, folder, "megacity", {}, HERE / "overload.yaml", ["small"])
        load = stack.enter_context(Load())
        result = _measured(load, service, options.seconds)
    for target in result["targets"]:
        word = "met   " if target["met"] else "MISSED"
        print(f"{word} {target['name']}: {target['value']} (wanted: {target['wanted']})")
    print(json.dumps({key: value for key, value in result.items() if key != "targets"}, indent=2))
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(described("benchmarks.overload") | result, indent=2) + "\n")
    sys.exit(not all(target["met"] for target in result["targets"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the overload lasts")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args()


def _measured(load: Load, service: Candidate, seconds: float) -> dict[str, Any]:
    premium, standard = (_ask(service.port, tier, share) for tier, share in _shares())
    load.closed(standard, SLOTS, 2.0)  # to warm up
    alone = load.closed(premium, 1, 8.0)
    capacity = load.closed(standard, SLOTS, 8.0).rate
    before = service.memory_mb()["pss"]
    over = load.open([premium, standard], TIMES * capacity, seconds)
    after = service.memory_mb()["pss"]
    again = load.closed(premium, 1, NORMAL_AFTER_S)
    return _result(alone, capacity, over, again, after - before, seconds)


def _shares() -> Iterator[tuple[str, float]]:
    yield "premium", PREMIUM
    yield "standard", 1 - PREMIUM


def _ask(port: int, tier: str, share: float) -> Ask:
    body = {"model": "small", "messages": [{"role": "user", "content": "What is 347 plus 85?"}]}
    return Ask(port, PATH, body, {"authorization": f"Bearer sk-local-{tier}"}, mark=tier, share=share)


def _result(
    alone: Found, capacity: float, over: Found, again: Found, growth_mb: float, seconds: float
) -> dict[str, Any]:
    unloaded = _p99_ms(alone.good)
    premium = [a for a in over.answers if a.mark == "premium"]
    served = [a for a in premium if a.status == 200]
    refused = [a for a in over.answers if a.status != 200]
    told = [a for a in refused if a.retry_after]
    goodput = sum(a.status == 200 and a.at + a.seconds <= seconds for a in over.answers) / seconds
    normal_s = _normal_after_s(again, unloaded)
    targets = [
        _at_most("premium p99 against its p99 alone", _p99_ms(served) / unloaded, 2.0),
        _at_least("premium served", len(served) / len(premium), 0.999),
        _at_least("refusals with Retry-After", len(told) / max(len(refused), 1), 1.0),
        _at_most("p99 of refusals, s", _p99_ms(refused) / 1000, 1.0),
        _at_least("goodput against capacity", goodput / capacity, 0.9),
        _at_most("growth of memory, MiB", growth_mb, 50.0),
        _at_most("seconds until answers are as before", normal_s, NORMAL_AFTER_S),
    ]
    return {
        "targets": [{key: getattr(target, key) for key in Target.__slots__} for target in targets],
        "capacity_per_s": round(capacity, 1),
        "offered_per_s": round(len(over.answers) / seconds, 1),
        "goodput_per_s": round(goodput, 1),
        "premium_p99_ms": {"alone": round(unloaded, 1), "overloaded": round(_p99_ms(served), 1)},
        "premium_p50_ms": {"alone": round(_p50_ms(alone.good), 1), "overloaded": round(_p50_ms(served), 1)},
        "refusal_p50_ms": round(_p50_ms(refused), 1),
        "statuses": dict(Counter(f"{a.mark} {a.status}" for a in over.answers)),
        "generator": round(over.busy_s / over.elapsed_s, 2),
    }


def _normal_after_s(again: Found, unloaded_ms: float) -> float:
    """When the last answer ended that took longer than twice the slowest usual."""
    slow = [a.at + a.seconds for a in again.answers if a.status != 200 or a.seconds * 1000 > 2 * unloaded_ms]
    return max(slow, default=0.0)


def _p99_ms(answers: list[Answer]) -> float:
    return percentile([a.seconds * 1000 for a in answers], 99) if answers else 0.0


def _p50_ms(answers: list[Answer]) -> float:
    return statistics.median(a.seconds * 1000 for a in answers) if answers else 0.0


def _at_most(name: str, value: float, limit: float) -> Target:
    return Target(name, round(value, 3), f"at most {limit:g}", value <= limit)


def _at_least(name: str, value: float, limit: float) -> Target:
    return Target(name, round(value, 4), f"at least {limit:g}", value >= limit)


if __name__ == "__main__":
    main()
