"""Prices: exact, rounded once, never above what was reserved."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.policies.pricing import TYPICAL_ANSWER_TOKENS, Hourly, Node, Price, Tariff, TokenPrices, usd
from serve_app.profile import load_profile
from serve_app.types import (
    Candidate,
    Chat,
    Completion,
    Decision,
    Job,
    Kind,
    Media,
    Message,
    Part,
    Sampling,
    Tool,
    Usage,
)

MANY = st.integers(0, 10**7)
MONEY = st.integers(0, 10**12)


@given(prompt=MANY, cached=MANY, written=MANY, us=MANY, prices=st.tuples(MONEY, MONEY, MONEY, MONEY))
def test_a_cost_is_exact_and_rounded_up_once(
    prompt: int, cached: int, written: int, us: int, prices: tuple[int, int, int, int]
) -> None:
    price = Price(100, *prices)
    usage = Usage(prompt + cached, written, cached, us / 10**6)
    tokens = Fraction(prompt * price.input + cached * price.cached + written * price.output, 10**6)
    assert price.cost(usage) == ceil(tokens + Fraction(us * price.slot_hour, 3600 * 10**6))


def test_an_own_card_costs_its_power_and_its_wear() -> None:
    """575 W at $0.12/kWh is $0.069 an hour; with $4,067 over 3.5 years that is the plan's $0.20."""
    card = Hourly(watts=Decimal(575), purchase_usd=Decimal(4067), lifetime_years=Decimal("3.5"))
    assert round(card.usd, 3) == Decimal("0.202")
    assert Hourly(watts=Decimal(575)).usd == Decimal("0.069")
    assert Node(gpu=Hourly(usd_per_hour=Decimal("3.60"))).slot(gpus=0.5, cores=2, slots=4) == 450_000_000


def test_a_second_in_a_slot_costs_its_share_of_the_node() -> None:
    node = Node(gpu=Hourly(usd_per_hour=Decimal("3.60")))
    price = Price.of(TokenPrices(), node.slot(1.0, 0, 4), 4096)
    assert price.cost(Usage(engine_s=1)) == 250_000  # $3.60 / 3,600 s / 4 slots
    assert price.cost(Usage(engine_s=1e-6)) == 1


def test_cached_tokens_cost_as_much_as_others_unless_a_price_says_less() -> None:
    prices = TokenPrices(input=Decimal("0.15"), output=Decimal("0.6"))
    assert Price.of(prices, 0, 4096).cost(Usage(1_000_000, 0, 400_000)) == 150_000_000
    cheaper = TokenPrices(input=Decimal("0.15"), cached=Decimal("0.075"))
    assert Price.of(cheaper, 0, 4096).cost(Usage(1_000_000, 0, 400_000)) == 120_000_000


@pytest.mark.parametrize("payload", [Chat((Message("user", "안녕" * 30),)), Completion("x" * 50)])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(max_tokens=16), Sampling(max_tokens=16, n=3)])
def test_a_bound_holds_for_the_worst_that_an_engine_may_do(payload: Chat | Completion, sampling: Sampling) -> None:
    price = Price(context_tokens=1000, input=10**9, output=3 * 10**9, cached=5 * 10**8, slot_hour=10**9)
    payload = type(payload)(payload.messages if isinstance(payload, Chat) else payload.prompt, sampling)  # type: ignore[arg-type]
    text = payload.messages[0].content if isinstance(payload, Chat) else payload.prompt
    written = (sampling.max_tokens or 1000) * sampling.n
    worst = Usage(len(text.encode()), written, engine_s=written / 2)  # a token per byte, two tokens a second
    assert (
        price.cost(worst) <= price.bound(payload, None) <= 2 * price.cost(Usage(1000 * sampling.n, 3000, engine_s=1530))
    )


def test_a_reservation_covers_the_dearest_candidate() -> None:
    cheap, dear = Price(100, output=10), Price(100, output=10**9)
    tariff = Tariff({("a", "1"): cheap, ("b", "1"): dear})
    plan = tuple(Candidate(Decision("e", model, "1", "onprem")) for model in ("a", "b", "unpriced"))
    job = Job("r", Kind.COMPLETION, Completion("hi"), plan=plan)
    assert tariff.bound(job) == dear.bound(job.payload, None)
    assert tariff.cost(plan[2].decision, Usage(9, 9, 0, 9.0)) == 0


@pytest.mark.parametrize(("nano", "text"), [(0, "0.000000000"), (1, "0.000000001"), (12_345_678_901, "12.345678901")])
def test_dollars_are_written_with_every_decimal(nano: int, text: str) -> None:
    assert usd(nano) == text


@given(st.integers(0, 10**15 - 1))
def test_a_json_number_holds_nine_decimals_exactly(nano: int) -> None:
    """Up to a million dollars in one sum: fifteen digits survive a double."""
    assert round(Decimal(repr(Usage(cost_nano_usd=nano).cost_usd)) * 10**9) == nano


@pytest.mark.parametrize("profile", ["embedded", "workstation", "cluster"])
def test_no_model_of_a_profile_is_free(profile: str) -> None:
    settings = load_profile(profile).settings
    assert all(price.cost(Usage(10, 10, 0, 1.0)) > 0 for price in settings.tariff().prices.values())
    assert type(settings).model_validate(settings.model_dump(mode="json")).tariff() == settings.tariff()


def test_every_engine_of_a_run_is_paid_at_its_own_price() -> None:
    prices = {name: Price(1000, input=rate, slot_hour=rate) for name, rate in (("a", 1), ("b", 10), ("c", 100))}
    tariff = Tariff({("model-a", "1"): prices["a"]}, prices, {"a": frozenset("bc")})
    of_c = Usage(prompt_tokens=4_000_000)
    of_b = Usage(prompt_tokens=2_000_000).with_parts([Part("c", of_c)])
    whole = Usage(prompt_tokens=1_000_000).with_parts([Part("b", of_b), Part("b", Usage(prompt_tokens=3_000_000))])
    assert whole.prompt_tokens == 10_000_000
    assert tariff.cost(Decision("a", "model-a", "1", "onprem"), whole) == 1 + (2 + 3) * 10 + 4 * 100


def test_a_reservation_covers_the_engines_that_may_be_called() -> None:
    dear = Price(100, output=10**9)
    tariff = Tariff({}, {"b": dear}, {"a": frozenset("b")})
    job = Job("r", Kind.COMPLETION, Completion("hi"), plan=(Candidate(Decision("a", "m", "1", "onprem")),))
    assert tariff.bound(job) == dear.bound(job.payload, None)


def test_a_picture_is_reserved_for_with_the_whole_context() -> None:
    price = Price(context_tokens=1000, input=10**9)
    seen = Message("user", "?", media=(Media("/x", "00", 1, "image/png"),))
    assert price.bound(Chat((seen,), Sampling(max_tokens=1)), None) == 1000 * 1000
    assert price.bound(Chat((Message("user", "?"),), Sampling(max_tokens=1)), None) < 1000 * 1000


def test_tools_are_reserved_for_too() -> None:
    price = Price(context_tokens=100_000, input=10**9)
    plain, tools = Chat((Message("user", "?"),)), (Tool("add", "더하기", '{"type": "object"}'),)
    written = sum(len(text.encode()) for text in ("add", "더하기", '{"type": "object"}'))
    assert price.bound(replace(plain, tools=tools), None) >= price.bound(plain, None) + written * 1000


def test_an_estimate_is_for_what_is_asked_or_for_a_typical_answer() -> None:
    price = Price(context_tokens=4096, input=10**9, output=2 * 10**9)
    said = (Message("user", "three little words"),)
    assert price.estimate(Chat(said, Sampling(max_tokens=10, n=2)), None) == (6 * 1000 + 10 * 2000) * 2
    assert price.estimate(Chat(said), None) == 6 * 1000 + TYPICAL_ANSWER_TOKENS * 2000
    assert price.estimate(Chat(said), None) <= price.bound(Chat(said), None)
    assert Price(4096, slot_hour=3600 * 10**9).estimate(Chat(said), None) == 10 * 10**9  # 300 tokens, 30 a second
