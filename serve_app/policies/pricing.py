"""What a run costs: integer nano-dollars, from tokens and from the time that an engine's slot was held.

A cost is a sum of products, exact, rounded once, upwards, to a whole nano-dollar. Own hardware is paid by time: a slot
costs its share of what the node costs per hour, by electricity and depreciation. That is the cost of *use*; what the
node costs while nothing runs on it is the price of keeping it warm, and is in no request's cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import ClassVar

from serve_app.policies.prompting import estimate_prompt, estimate_tokens
from serve_app.types import Candidate, Chat, Decision, Job, Payload, Usage

NANO = 10**9
TOKENS_PRICED = 10**6  # token prices are per million, as everybody quotes them
US_PER_HOUR = 3600 * 10**6
HOURS_PER_YEAR = 8760

BYTES_AROUND_PROMPT = 256  # a chat template's own words
BYTES_AROUND_TOOLS = 1024  # and what it says about calling tools; Qwen's, the longest of those in use, takes 700
TOKENS_PER_MESSAGE = 5  # what a chat template puts around a message; see `routing`
SLOWEST_TOKENS_PER_S = 2  # a reservation for time reckons with this pace ...
SLOWEST_START_S = 30  # ... after this long a prefill
TYPICAL_ANSWER_TOKENS = 300  # an estimate reckons with this length if the caller sets none ...
TYPICAL_TOKENS_PER_S = 30  # ... and with this pace


@dataclass(frozen=True, slots=True)
class Hourly:
    """What one unit of hardware (a GPU, a CPU core) costs per hour: rent, or electricity and depreciation."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    usd_per_hour: Decimal = Decimal(0)
    watts: Decimal = Decimal(0)
    usd_per_kwh: Decimal = Decimal("0.12")
    purchase_usd: Decimal = Decimal(0)
    lifetime_years: Decimal = Decimal(3)

    @property
    def usd(self) -> Decimal:
        electricity = self.watts / 1000 * self.usd_per_kwh
        return self.usd_per_hour + electricity + self.purchase_usd / (self.lifetime_years * HOURS_PER_YEAR)


@dataclass(frozen=True, slots=True)
class Node:
    """The hardware of a node class."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    gpu: Hourly = Hourly()
    core: Hourly = Hourly()

    def slot(self, gpus: float, cores: float, slots: int) -> int:
        """Nano-dollars per hour of one slot of an engine replica that takes so much of this node, rounded up."""
        usd = self.gpu.usd * Decimal(str(gpus)) + self.core.usd * Decimal(str(cores))
        return int((usd * NANO / slots).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Dollars per million tokens. `cached` is for prompt tokens that the engine had computed before."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cached: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs on its engine, in nano-dollars: per million tokens, and per hour of a slot."""

    context_tokens: int
    input: int = 0
    output: int = 0
    cached: int = 0
    slot_hour: int = 0

    @classmethod
    def of(cls, tokens: TokenPrices, slot_hour: int, context_tokens: int) -> "Price":
        cached = tokens.input if tokens.cached is None else tokens.cached
        return cls(context_tokens, _nano(tokens.input), _nano(tokens.output), _nano(cached), slot_hour)

    def cost(self, usage: Usage) -> int:
        """Nano-dollars for what was used, rounded up once."""
        read = usage.prompt_tokens - usage.cached_tokens
        tokens = read * self.input + usage.cached_tokens * self.cached + usage.completion_tokens * self.output
        time = microseconds(usage.engine_s) * self.slot_hour
        return _divided_up(tokens * (US_PER_HOUR // TOKENS_PRICED) + time, US_PER_HOUR)

    def bound(self, payload: Payload, instructions: str | None) -> int:
        """Nano-dollars that a run of `payload` cannot exceed, before it is known what it will use."""
        prompt = self.context_tokens  # nobody knows how many tokens a picture takes
        if not payload.attachments:
            prompt = min(_most_prompt_tokens(payload, instructions), prompt)
        asked = payload.sampling.max_tokens or self.context_tokens
        written = min(asked, self.context_tokens) * payload.sampling.n
        seconds = SLOWEST_START_S + written / SLOWEST_TOKENS_PER_S
        dearest = max(self.input, self.cached)
        tokens = prompt * payload.sampling.n * dearest + written * self.output
        time = microseconds(seconds) * self.slot_hour
        return _divided_up(tokens * (US_PER_HOUR // TOKENS_PRICED) + time, US_PER_HOUR)

    def estimate(self, payload: Payload, instructions: str | None) -> int:
        """Nano-dollars that a run of `payload` is likely to cost: the prompt's tokens as the router estimates them, and
        an answer of `max_tokens`, or of `TYPICAL_ANSWER_TOKENS` if the caller sets none. Pictures are not reckoned."""
        n = payload.sampling.n
        prompt = min(estimate_prompt(payload) + estimate_tokens(instructions or ""), self.context_tokens)
        written = min(payload.sampling.max_tokens or TYPICAL_ANSWER_TOKENS, self.context_tokens) * n
        return self.cost(Usage(prompt * n, written, engine_s=written / TYPICAL_TOKENS_PER_S))


@dataclass(frozen=True, slots=True)
class Tariff:
    """The price of every model, by name and version. A model without one costs nothing.

    `engines` has the prices of what an engine does for another one, by its name, and `calls` which others an engine may
    call, directly or not.
    """

    prices: Mapping[tuple[str, str], Price] = field(default_factory=dict)
    engines: Mapping[str, Price] = field(default_factory=dict)
    calls: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def cost(self, who: Decision, usage: Usage) -> int:
        """What the run of a model used, each engine's share at its own price."""
        shares = usage.per_engine(who.engine)
        own = self.prices.get((who.model, who.version))
        costs = own.cost(shares.pop(who.engine)) if own else 0
        return costs + sum(self.engines[name].cost(share) for name, share in shares.items() if name in self.engines)

    def bound(self, job: Job) -> int:
        """What `job` may cost at most, whichever of its candidates answers."""
        return max((self._bound(candidate, job) for candidate in job.plan), default=0)

    def _bound(self, candidate: Candidate, job: Job) -> int:
        return sum(price.bound(job.payload, candidate.instructions) for price in self._asked(candidate))

    def estimate(self, candidate: Candidate, job: Job) -> int:
        """What `job` is likely to cost if this candidate answers."""
        return sum(price.estimate(job.payload, candidate.instructions) for price in self._asked(candidate))

    def _asked(self, candidate: Candidate) -> list[Price]:
        """The prices of the model and of what its engine may call."""
        who = candidate.decision
        called = [self.engines.get(name) for name in self.calls.get(who.engine, ())]
        prices = [self.prices.get((who.model, who.version)), *called]
        return [price for price in prices if price]


def microseconds(seconds: float) -> int:
    return round(seconds * 10**6)


def usd(nano: int) -> str:
    """Dollars with all nine decimals, exactly."""
    return f"{'-' if nano < 0 else ''}{abs(nano) // NANO}.{abs(nano) % NANO:09d}"


def _most_prompt_tokens(payload: Payload, instructions: str | None) -> int:
    """No vocabulary in use makes more tokens of a text than it has bytes."""
    tools = BYTES_AROUND_TOOLS if isinstance(payload, Chat) and payload.tools else 0
    around = BYTES_AROUND_PROMPT + tools + TOKENS_PER_MESSAGE * len(payload.texts)
    return around + len((instructions or "").encode()) + sum(len(text.encode()) for text in payload.texts)


def _nano(usd_per_million: Decimal) -> int:
    return int((usd_per_million * NANO).to_integral_value(ROUND_CEILING))


def _divided_up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
