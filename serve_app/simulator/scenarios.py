"""The plan's own figures, worked out again, step by step, in decimal arithmetic.

Every step holds the plan's figure beside the one that comes out. Where they differ, or where a figure rests on
something that the plan counts twice or leaves out, the note says what is corrected.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from serve_app.errors import ConfigError

HOURS = 720
"""The plan's month: 30 days."""

A100 = Decimal("4.00")
KWH = Decimal("0.12")
WATTS_BUSY = 575
CENT = Decimal("0.01")
S3, R2, B2 = Decimal("0.023"), Decimal("0.015"), Decimal("0.005")
S3_EGRESS, B2_EGRESS = Decimal("0.09"), Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Step:
    """One line: what, how it is worked out, what the plan says (None: nothing) and what comes out."""

    what: str
    how: str
    plan: Decimal | None
    is_: Decimal
    unit: str = "$"
    note: str = ""

    def data(self) -> dict[str, Any]:
        plan = None if self.plan is None else float(self.plan)
        agrees = None if self.plan is None else self.agrees
        return {
            "what": self.what, "how": self.how, "plan": plan, "value": float(self.is_), "unit": self.unit,
            "agrees": agrees, "note": self.note,
        }  # fmt: skip

    @property
    def agrees(self) -> bool:
        """Within 1 % of it, because the plan rounds."""
        return self.plan is not None and abs(self.plan - self.is_) <= abs(self.plan) / 100


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan's claim: before, after, and the way there; and the same with its arithmetic put right."""

    name: str
    claim: str
    steps: tuple[Step, ...]

    def data(self) -> dict[str, Any]:
        return {"scenario": self.name, "claim": self.claim, "steps": [step.data() for step in self.steps]}

    def text(self) -> str:
        return "\n".join([f"{self.name}: {self.claim}", *(line for step in self.steps for line in _lines(step))])


def _lines(step: Step) -> list[str]:
    plan = "" if step.plan is None else f"  (plan: {_shown(step.plan, step.unit)}{'' if step.agrees else ', OFF'})"
    lines = [f"  {step.what:<46} {_shown(step.is_, step.unit):>14}{plan}", f"      = {step.how}"]
    return [*lines, f"      ! {step.note}"] if step.note else lines


def _shown(value: Decimal, unit: str) -> str:
    rounded = value.quantize(CENT, ROUND_HALF_UP)
    return f"${rounded:,}" if unit == "$" else f"{rounded:,} {unit}"


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_UP)


def _share(part: Decimal, whole: Decimal) -> Decimal:
    return _cents(100 * part / whole)


def gpu() -> Scenario:
    before = 2 * A100 * HOURS
    power = _cents(Decimal(WATTS_BUSY) / 1000 * HOURS * KWH)
    peak = A100 * 12 * 30
    after = 50 + peak
    longer = A100 * 14 * 30
    depreciated = Decimal("0.20") * HOURS
    return Scenario(
        "gpu",
        "two A100 all day, or one 5090 all day and one A100 in peak hours",
        (
            Step("two A100, all day", f"2 x $4.00 x {HOURS} h", Decimal(5760), before),
            Step("one 5090: power", f"575 W x {HOURS} h x $0.12/kWh", Decimal(50), power),
            Step("one A100 in peak hours", "$4.00 x 12 h x 30", Decimal(1440), peak),
            Step("after", "$50 + $1,440", Decimal(1490), after),
            Step("saved", "1 - 1,490 / 5,760", None, _share(before - after, before), "%"),
            Step(
                "corrected: peak hours",
                "$4.00 x 14 h x 30",
                Decimal(1440),
                longer,
                note="the plan's peak is 09:00 to 23:00, which is 14 hours and not 12",
            ),
            Step(
                "corrected: one 5090, all in",
                f"$0.20 x {HOURS} h",
                Decimal(50),
                depreciated,
                note="by the plan's own price, with depreciation; power alone is a third of it",
            ),
            Step("corrected: after", "$144 + $1,680", Decimal(1490), depreciated + longer),
        ),
    )


def storage() -> Scenario:
    kept, sent = 1000 * S3, 10_000 * S3_EGRESS
    r2, b2 = 400 * R2, 600 * B2
    return Scenario(
        "storage",
        "1 TB on S3 with 10 TB sent out, or 400 GB on R2 and 600 GB on B2",
        (
            Step("S3: kept", "1,000 GB x $0.023", None, kept),
            Step("S3: sent out", "10,000 GB x $0.09", None, sent),
            Step("before", "$23 + $900", Decimal(923), kept + sent),
            Step("R2", "400 GB x $0.015, nothing for what is sent", Decimal(6), r2),
            Step("B2", "600 GB x $0.005", Decimal(3), b2),
            Step("after", "$6 + $3", Decimal(9), r2 + b2),
            Step(
                "corrected: after, with 5 % read from B2",
                "$9 + 500 GB x $0.01",
                Decimal(9),
                r2 + b2 + 500 * B2_EGRESS,
                note="B2 charges $0.01 per GB sent; $9 holds only while nothing is read back from the archive",
            ),
        ),
    )


def llm() -> Scenario:
    def mixed(large: int, middle: int, small: int) -> Decimal:
        return (Decimal(large) * 70 + Decimal(middle) * 32 + Decimal(small) * 7) / 100

    before, after = mixed(50, 30, 20), mixed(10, 30, 60)
    mix = _cents(6000 * after / before)
    cached = _cents(6000 * after / before * Decimal("0.7"))
    half = _cents(6000 * after / before * Decimal("0.7") * Decimal("0.75"))
    return Scenario(
        "llm",
        "a smaller mix of models, shorter prompts and a cache",
        (
            Step("before", "as the plan has it", Decimal(6000), Decimal(6000)),
            Step("weight of the mix, before", "0.5 x 70 + 0.3 x 32 + 0.2 x 7", None, before, "B per token"),
            Step("weight of the mix, after", "0.1 x 70 + 0.3 x 32 + 0.6 x 7", None, after, "B per token"),
            Step("by the mix alone", "$6,000 x 20.8 / 46", None, mix, note="cost in proportion to parameters"),
            Step("and a cache that answers 30 %", "x 0.7", None, cached),
            Step("and prompts half as long", "x 0.75: prompts as half of the cost", None, half),
            Step(
                "corrected: after",
                "the three measures multiply",
                Decimal(3000),
                half,
                note="the plan's $3,000 is less than its mix alone would save; what it says is on the safe side",
            ),
        ),
    )


def network() -> Scenario:
    before = 10_000 * S3_EGRESS
    total_before = Decimal(5760) + 923 + 6000 + before
    total_after = Decimal(1490) + 9 + 3000
    honest = total_before - before
    return Scenario(
        "network",
        "10 TB sent out of S3, or out of R2; and the sum of all four scenarios",
        (
            Step("before", "10,000 GB x $0.09", Decimal(900), before),
            Step("after", "R2 charges nothing for what is sent", Decimal(0), Decimal(0)),
            Step("all four, before", "5,760 + 923 + 6,000 + 900", Decimal(13583), total_before),
            Step("all four, after", "1,490 + 9 + 3,000 + 0", Decimal(4499), total_after),
            Step(
                "saved",
                "1 - 4,499 / 13,583",
                Decimal(67),
                _share(total_before - total_after, total_before),
                "%",
            ),
            Step(
                "corrected: all four, before",
                "5,760 + 923 + 6,000",
                Decimal(13583),
                honest,
                note="the $900 of this scenario are the same 10 TB that the storage scenario counts",
            ),
            Step("corrected: saved", "1 - 4,499 / 12,683", Decimal(67), _share(honest - total_after, honest), "%"),
        ),
    )


def users() -> Scenario:
    from serve_app.simulator.users import ROWS, million

    fixed = Decimal(20 + 10 + 10 + 8 + 2)
    steps = [Step("fixed each month", "CDN 20 + B2 10 + IP 10 + database 8 + domain 2", None, fixed)]
    for row in ROWS:
        named = row.edge + row.power
        steps.append(
            Step(
                f"{row.users:,} users: sum",
                f"edge {row.edge} + power {row.power} + fixed {fixed}",
                row.total,
                named + fixed,
                note=f"the plan's total leaves ${row.total - named} for all that is fixed",
            )
        )
    for row in ROWS:
        steps += row.capacity()
    steps += _once()
    return Scenario(
        "users", "what it costs by the number of users, and what so many cards can do", (*steps, *million())
    )


def _once() -> list[Step]:
    power = _cents(Decimal("1.5") * HOURS * KWH)
    once = Decimal(6000 + 5000 + 400 + 300 + 500)
    before = (Decimal(15000), Decimal(24000))
    return [
        Step("three cards and their server: power", f"1.5 kW x {HOURS} h x $0.12", Decimal(130), power),
        Step("running, at least", "130 + 50 + 20 + 10 + 10 + 8 + 2", Decimal(230), Decimal(230)),
        Step("running, at most", "130 + 150 + 20 + 10 + 10 + 8 + 2", Decimal(330), Decimal(330)),
        Step("once", "6,000 + 5,000 + 400 + 300 + 500", Decimal(12200), once),
        Step("paid back after", "12,200 / (1,500 - 280)", Decimal(10), _cents(once / (1500 - 280)), "months"),
        Step("10,000 users as first planned, at least", "8,000 + 3,000 + 2,000 + 1,000 + 1,000", None, before[0]),
        Step("10,000 users as first planned, at most", "12,000 + 5,000 + 4,000 + 2,000 + 1,000", None, before[1]),
        Step("optimised, at least", "2,400 + 900 + 1,200 + 200 + 500", None, Decimal(5200)),
        Step(
            "optimised, at most",
            "4,800 + 1,500 + 2,400 + 400 + 500",
            None,
            Decimal(9600),
            note="both are above the plan's own target of $5,000 a month in all",
        ),
    ]


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "gpu": gpu, "storage": storage, "llm": llm, "network": network, "users": users,
}  # fmt: skip


def scenario(name: str) -> Scenario:
    if name not in SCENARIOS:
        raise ConfigError(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return SCENARIOS[name]()
