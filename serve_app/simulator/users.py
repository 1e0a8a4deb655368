"""The plan's table of users against cost: what its cards can carry, and what a million users would take.

What a card can do is the plan's: 500 tokens per second for 32B, 1,200 for 7B in batches of 8, 80 to 100 for 70B;
answers have 200 tokens. What it leaves open is assumed here, in constants that say so.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from serve_app.simulator.queueing import slots_for, wait_quantile

if TYPE_CHECKING:
    from serve_app.simulator.scenarios import Step

ANSWER_TOKENS = 200
CARD_TOKENS_PER_S = 500
CARD_7B_TOKENS_PER_S = 1200
PROMPT_TOKENS = 1000
HOURS = 720
PEAK_HOURS = 14
OFF_PEAK_SHARE = 0.25
"""Assumed: the load of 23:00 to 09:00 beside that of the day."""

THINK_S = 60.0
"""Assumed: a user who is there asks once a minute."""

CACHED = 0.30
"""The plan's least share of answers from the cache."""

OWN_PER_H, OD_PER_H, SPOT_PER_H = 0.20, 4.00, 1.20
OWN_CARDS = 5
"""What the plan gives a million users."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the plan's table; dollars a month."""

    users: int
    concurrent: int
    rps: int
    cards: int
    edge: Decimal
    power: Decimal
    total: Decimal

    def capacity(self) -> "list[Step]":
        """Cards that the row's requests per second would take if every request were an answer of a model."""
        from serve_app.simulator.scenarios import Step

        able = Decimal(self.cards * CARD_TOKENS_PER_S) / ANSWER_TOKENS
        needed = math.ceil(self.rps * ANSWER_TOKENS / CARD_TOKENS_PER_S)
        share = (able / self.rps * 100).quantize(Decimal("0.01"))
        return [
            Step(
                f"{self.users:,} users: cards",
                f"{self.rps:,} requests/s x {ANSWER_TOKENS} tokens / {CARD_TOKENS_PER_S} per card",
                Decimal(self.cards),
                Decimal(needed),
                "cards",
                note=f"{self.cards} x 5090 answer {able:.1f} requests/s: {share} % of them may reach a model",
            )
        ]


ROWS = tuple(
    Row(users, concurrent, rps, cards, *(Decimal(value) for value in money))
    for users, concurrent, rps, cards, *money in (
        (1_000, 100, 10, 1, 20, 50, 100),
        (10_000, 500, 50, 2, 50, 90, 180),
        (100_000, 3_000, 300, 3, 120, 130, 290),
        (500_000, 7_000, 700, 4, 250, 180, 480),
        (1_000_000, 10_000, 1_000, 5, 400, 230, 710),
    )
)


@dataclass(frozen=True, slots=True)
class Class:
    """A size of model: its share of the mix, slots per card and per cloud card, and its rates."""

    name: str
    share: float
    slots_own: int
    slots_cloud: int
    prefill: float
    tpot: float
    cards: int = 1

    @property
    def service_s(self) -> float:
        return PROMPT_TOKENS / self.prefill + ANSWER_TOKENS * self.tpot


MIX = (
    Class("7B", 0.60, 8, 12, 8000.0, 8 / CARD_7B_TOKENS_PER_S),
    Class("32B", 0.30, 8, 12, 2500.0, 0.022),
    Class("70B", 0.10, 4, 8, 1200.0, 0.030, cards=2),
)
"""The plan's mix. 70B in 4 bits does not fit one 5090, so a replica takes two."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Instances of one class for so many requests per second; `wait_p95` by Erlang C."""

    of: Class
    rps: float
    slots: int
    wait_p95: float


def fleet(of: Class, concurrent: int, share: float = 1.0) -> Fleet:
    """The smallest fleet of cloud instances of which 95 % of the requests get a slot within half a second."""
    rps = concurrent / THINK_S * (1 - CACHED) * of.share * share
    load = rps * of.service_s
    slots = slots_for(load, of.service_s, 0.5, step=of.slots_cloud)
    return Fleet(of, rps, slots, wait_quantile(slots, load, of.service_s, 0.95))


def million(concurrent: int = 10_000) -> "list[Step]":
    """What 10,000 users at once take: fleet, p95 and the bill of a month."""
    from serve_app.simulator.scenarios import Step

    day, night = ([fleet(of, concurrent, share) for of in MIX] for share in (1.0, OFF_PEAK_SHARE))
    rps = Decimal(concurrent / THINK_S * (1 - CACHED)).quantize(Decimal("0.01"))
    steps = [
        Step(
            f"{concurrent:,} at once: requests to models",
            f"{concurrent:,} / {THINK_S:g} s x (1 - {CACHED})",
            None,
            rps,
            "requests/s",
        )
    ]
    hours = Decimal(0)
    for peak, quiet in zip(day, night, strict=True):
        steps += _class_steps(peak)
        at_peak, off_peak = peak.slots // peak.of.slots_cloud, quiet.slots // quiet.of.slots_cloud
        hours += Decimal(30 * (at_peak * PEAK_HOURS + off_peak * (24 - PEAK_HOURS)))
    saved = Decimal(str(OWN_CARDS * 8 / 12 * HOURS)).quantize(Decimal("0.01"))
    rest = Decimal(400 + 50) + Decimal(str(OWN_PER_H)) * OWN_CARDS * HOURS
    own = "edge 400 + fixed 50 + 5 cards at $0.20/h"
    cloud = hours - saved
    steps.append(Step("instance hours in the cloud", f"{hours} h - {saved} h done by 5 own cards", None, cloud, "h"))
    for name, price in (("on demand", OD_PER_H), ("on spot", SPOT_PER_H)):
        bill = (cloud * Decimal(str(price)) + rest).quantize(Decimal("0.01"))
        steps.append(
            Step(
                f"a month, {name}",
                f"{cloud} h x ${price:.2f} + {own}",
                Decimal(710),
                bill,
                note=f"{_each(bill)} a user",
            )
        )
    return steps


def _each(bill: Decimal) -> str:
    return f"${bill / 1_000_000:.3f}"


def _class_steps(found: Fleet) -> "list[Step]":
    from serve_app.simulator.scenarios import Step

    of = found.of
    ends = found.wait_p95 + of.service_s
    first = found.wait_p95 + PROMPT_TOKENS / of.prefill
    return [
        Step(
            f"{of.name}: instances at peak",
            f"{found.rps:.1f} requests/s x {of.service_s:.2f} s = {found.rps * of.service_s:.0f} slots busy, "
            f"{found.slots} there, {of.slots_cloud} each",
            None,
            Decimal(found.slots // of.slots_cloud),
            "instances",
        ),
        Step(f"{of.name}: p95 of the first token", "wait by Erlang C + prefill", None, _seconds(first), "s"),
        Step(f"{of.name}: p95 of the whole answer", "wait by Erlang C + 200 tokens", None, _seconds(ends), "s"),
    ]


def _seconds(value: float) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.01"))
