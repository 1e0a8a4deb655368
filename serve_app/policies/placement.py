"""Which engine goes on which card, whether it fits there, and the nearest change that would make it fit.

Ray takes a GPU fraction for bookkeeping only, so the memory is planned here. What a process holds on a card is weights
+ KV cache + work + CUDA context; `need` has the formulas. All sizes are bytes, per card, unless the name says GiB.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import ClassVar

from serve_app.policies.architectures import MIB, Architecture, Fixed, Runtime
from serve_app.policies.cards import CARDS, CONTEXT, GIB, HIGHEST, Card

BLOCK = 16
"""Tokens in a block of vLLM's KV cache on a GPU; a sequence holds whole blocks."""
BATCHED_TOKENS = 2048
"""Tokens in one forward pass: vLLM's default for an engine that is not its own server."""
BYTES_PER_LOGIT = 16
"""Sampling holds the logits in 32 bits, sorted, with 64-bit indices."""
WORKSPACE: Mapping[Runtime, int] = {"vllm": 512 * MIB, "ctranslate2": 256 * MIB}
"""cuBLAS and attention workspaces, and vLLM's CUDA graphs: an estimate, with room above the 0.1 to 0.4 GiB in logs."""
LINKS = 512 * MIB
"""Buffers of NCCL and of vLLM's own all-reduce, on each card of a tensor-parallel engine: an estimate."""

SHORTEST_TOKENS = 1024
STEP_TOKENS = 256
STEP_FRACTION = 20  # fractions are offered in twentieths
EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Scheme:
    """How weights are stored: bits of a linear weight with its share of scales and zeros, and of a table's."""

    name: str
    linear: float
    tables: float = 16
    group: int = 0


def grouped(name: str, bits: int, group: int = 128) -> Scheme:
    """GPTQ and AWQ: a 16-bit scale and a zero point of `bits` for every `group` weights; tables stay in 16 bits."""
    return Scheme(name, bits + (16 + bits) / group, group=group)


FULL = Scheme("float32", 32, 32)
HALF = Scheme("float16", 16)
FP8 = Scheme("fp8", 8)
INT8 = Scheme("int8", 8, 8)  # CTranslate2 makes the embeddings small as well
GPTQ8 = grouped("gptq-8bit", 8)
GPTQ4 = grouped("gptq-4bit", 4)
AWQ4 = grouped("awq-4bit", 4)
SCHEMES: Mapping[str, Scheme] = {s.name: s for s in (FULL, HALF, FP8, INT8, GPTQ8, GPTQ4, AWQ4)}


@dataclass(frozen=True, slots=True)
class Need:
    weights: int
    kv: int
    work: int
    context: int = CONTEXT

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.work + self.context

    def __str__(self) -> str:
        parts = {"weights": self.weights, "KV cache": self.kv, "work": self.work, "CUDA context": self.context}
        return ", ".join(f"{name} {gib(size)}" for name, size in parts.items())


@dataclass(frozen=True, slots=True)
class Language:
    """A language model as an engine is to run it: `sequences` at a time, each of up to `tokens`, on `cards` cards."""

    model: Architecture
    weights: Scheme = HALF
    tokens: int = 4096
    sequences: int = 1
    cards: int = 1
    kv_bits: int = 16
    runtime: Runtime = "vllm"
    stored: int | None = None
    """Bytes of the checkpoint, where it was read; they take the place of the estimate."""

    def need(self) -> Need:
        """On each card.

        Weights are divided over the cards (Megatron-LM, arXiv:1909.08053). The KV cache holds every sequence at full
        length, so that nobody is thrown out in the middle of an answer; vLLM itself asks for one such sequence only.
        """
        kv = self.sequences * self._kept_tokens() * self.model.kv_elements(self.cards) * self.kv_bits // 8
        return Need(-(-self._weights() // self.cards), kv, self._work())

    def _weights(self) -> int:
        if self.stored is not None:
            return self.stored
        model, scheme = self.model, self.weights
        bits = model.linear * scheme.linear + model.tables * scheme.tables + (model.small + model.vision) * 16
        return ceil(bits / 8)

    def _kept_tokens(self) -> int:
        return -(-self.tokens // BLOCK) * BLOCK if self.runtime == "vllm" else self.tokens

    def _work(self) -> int:
        """Activations of the largest forward pass.

        vLLM cuts prompts into passes of BATCHED_TOKENS and profiles one at start-up: two MLP intermediates and some
        hidden states per token, and the logits of a token of each sequence. With that, Llama-3-8B comes to 1.3 GiB for
        8,192 tokens and 256 sequences; vLLM logs 1.26 (vllm-project/vllm#10511). It does not shrink with more cards.
        CTranslate2 reads a prompt in one piece and holds the scores of one layer, heads x tokens^2: measured on the CPU
        with 1,024 to 4,096 tokens. One prompt of full length at a time is reckoned with.
        """
        pass_tokens = min(BATCHED_TOKENS, self.tokens) if self.runtime == "vllm" else self.tokens
        activations = pass_tokens * (2 * self.model.intermediate + 6 * self.model.hidden) * 2
        logits = self.sequences * self.model.vocabulary * BYTES_PER_LOGIT
        scores = self.model.heads * self.tokens**2 * self.kv_bits // 8 if self.runtime == "ctranslate2" else 0
        links = LINKS if self.cards > 1 else 0
        return activations + logits + scores + links + WORKSPACE[self.runtime]


@dataclass(frozen=True, slots=True)
class Other:
    """A speech, motion, embedding or diffusion model; `bits` of its weights."""

    model: Fixed
    slots: int = 1
    bits: int = 16
    stored: int | None = None
    on: Runtime | None = None
    """What it runs on, where that is not the usual one."""
    cards: ClassVar[int] = 1

    @property
    def runtime(self) -> Runtime:
        return self.on or self.model.runtime

    def need(self) -> Need:
        weights = self.model.parameters * self.bits // 8 if self.stored is None else self.stored
        return Need(weights, self.slots * self.model.per_slot, self.model.work)


Load = Language | Other


@dataclass(frozen=True, slots=True)
class Claim:
    """An engine of a profile: its load, its fraction of each card, and the node classes it may run on, first first.

    `load` is None where nothing is known about the model. `always` replicas run at all times, up to `most` in all.
    """

    engine: str
    load: Load | None
    fraction: float
    classes: Sequence[str] = ("onprem",)
    always: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """The cards of a node class. `nodes` is None where as many as are asked for can be rented."""

    card: Card
    per_node: int = 1
    nodes: int | None = 1


@dataclass(frozen=True, slots=True)
class Check:
    """An engine against the cards of one node class; `problem` is None if it fits, the nearest remedy is first."""

    engine: str
    node_class: str
    card: Card
    need: Need
    budget: int
    problem: str | None = None
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one replica goes: its cards, counted through the nodes of the class."""

    engine: str
    node_class: str
    cards: tuple[int, ...]
    fraction: float
    always: bool


@dataclass(frozen=True, slots=True)
class Plan:
    checks: tuple[Check, ...] = ()
    seats: tuple[Seat, ...] = ()
    unknown: tuple[str, ...] = ()
    """Engines that nothing can be said about: an unknown model, or a node class without named cards."""
    waiting: tuple[str, ...] = ()
    """Engines that start on demand and would find no free card while everything else runs."""
    homeless: tuple[str, ...] = ()
    """Problems of engines that are always on and find no card."""

    @property
    def problems(self) -> tuple[str, ...]:
        return (*(check.problem for check in self.checks if check.problem), *self.homeless)


def cards_by_size(parameters: int) -> int:
    """Cards for tensor parallelism where a profile doesn't say: 7B and 14B one, 32B two, 70B four."""
    for limit, cards in ((20e9, 1), (40e9, 2), (100e9, 4)):
        if parameters < limit:
            return cards
    return 8


def indivisible(model: Architecture, cards: int, scheme: Scheme = HALF) -> str | None:
    """Why a model cannot be divided over so many cards; None if it can.

    vLLM divides attention heads evenly (`verify_with_parallel_config`), key/value heads evenly or in whole copies
    (`qwen2.py`, `llama.py`), and the groups of a quantized MLP must stay whole.
    """
    if model.heads % cards:
        fitting = [n for n in (1, 2, 4, 8) if not model.heads % n]
        return f"{model.heads} heads do not divide by {cards}; use {' or '.join(map(str, fitting))}"
    if not model.latent and model.kv_heads % cards and cards % model.kv_heads:
        return f"{model.kv_heads} key/value heads neither divide by {cards} nor go into it"
    if scheme.group and model.intermediate % (cards * scheme.group):
        return (
            f"the MLP's {model.intermediate} inputs in groups of {scheme.group} do not divide by {cards}; "
            "quantize with a smaller group or use fewer cards"
        )
    return None


def plan(claims: Sequence[Claim], pools: Mapping[str, Pool]) -> Plan:
    """Check every engine on every node class it may run on, then seat the replicas."""
    checks, unknown = [], []
    for claim in claims:
        named = [(name, pools[name]) for name in claim.classes if name in pools]
        if claim.load is None or not named:
            unknown.append(claim.engine)
        else:
            checks += [check(claim, name, pool) for name, pool in named]
    seating = _Seating(pools)
    always = [claim for claim in claims for _ in range(claim.always)]
    extra = [claim for claim in claims for _ in range(claim.most - claim.always)]
    homeless = [_no_room(c, pools) for c in _largest_first(always) if not seating.seat(c, True)]
    waiting = [c.engine for c in _largest_first(extra) if not seating.seat(c, False)]
    return Plan(
        tuple(checks),
        tuple(seating.seats),
        tuple(unknown),
        tuple(dict.fromkeys(waiting)),
        tuple(dict.fromkeys(homeless)),
    )


def check(claim: Claim, node_class: str, pool: Pool) -> Check:
    """Raises ValueError for a claim without a load."""
    if claim.load is None:
        raise ValueError(f"nothing is known about the model of {claim.engine}")
    need, budget = claim.load.need(), pool.card.budget(_per_card(claim))
    if broken := _broken(claim, pool):
        return Check(claim.engine, node_class, pool.card, need, budget, f"{claim.engine} on {node_class}: {broken}")
    if need.total <= budget:
        return Check(claim.engine, node_class, pool.card, need, budget)
    remedies = tuple(_remedies(claim, pool))
    share = f"{_per_card(claim):g} of one {pool.card.name}"
    problem = (
        f"{claim.engine} on {node_class}: {gib(need.total)} GiB do not fit {share}, {gib(budget)} GiB ({need} GiB): "
        f"{gib(need.total - budget)} too much; {remedies[0]}"
    )
    return Check(claim.engine, node_class, pool.card, need, budget, problem, remedies)


def gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _per_card(claim: Claim) -> float:
    return claim.fraction / claim.load.cards if claim.load else min(claim.fraction, 1)


def _broken(claim: Claim, pool: Pool) -> str | None:
    """What no amount of memory mends."""
    cards = claim.load.cards if claim.load else 1
    if claim.fraction > 1 and abs(claim.fraction - cards) > EPSILON:
        return f"resources.gpu is {claim.fraction:g} and tensor_parallel {cards}; make them the same whole number"
    if cards > 1 and claim.fraction <= 1:
        return f"tensor_parallel {cards} takes whole cards; set resources.gpu to {cards}, or tensor_parallel to 1"
    if isinstance(claim.load, Language) and (why := indivisible(claim.load.model, cards, claim.load.weights)):
        return f"tensor_parallel {cards}: {why}"
    if cards > pool.per_node:
        return (
            f"tensor_parallel {cards} on nodes with {pool.per_node} x {pool.card.name}; use larger nodes or fewer cards"
        )
    return None


def _fits(claim: Claim, pool: Pool) -> bool:
    assert claim.load is not None
    return not _broken(claim, pool) and claim.load.need().total <= pool.card.budget(_per_card(claim))


def _remedies(claim: Claim, pool: Pool) -> Iterator[str]:
    """Changes after which it fits, nearest first; one that says where it would fit if nothing else helps."""
    found = [text for text, changed in _changes(claim, pool) if _fits(changed, pool)]
    yield from found or _larger_hardware(claim, pool)


def _changes(claim: Claim, pool: Pool) -> Iterator[tuple[str, Claim]]:
    """From what costs nothing but room to what costs accuracy or more cards."""
    yield from _larger_fraction(claim, pool)
    if not isinstance(claim.load, Language):
        return
    load = claim.load
    if load.runtime == "vllm" and load.kv_bits > 8 and pool.card.fp8_kv:
        yield "set kv_cache_dtype to fp8", _with(claim, replace(load, kv_bits=8))
    yield from _fewer(claim, load, pool)
    for scheme in (GPTQ8, AWQ4):
        if scheme.linear < load.weights.linear - 1:
            smaller = replace(load, weights=scheme, stored=None)
            quantize = f"quantize the weights to {scheme.linear:.0f} bits"
            yield quantize, _with(claim, smaller)
            if not _fits(_with(claim, smaller), pool):
                yield from ((f"{quantize} and {text}", changed) for text, changed in _fewer(claim, smaller, pool))
    yield from _more_cards(claim, load)


def _with(claim: Claim, load: Language) -> Claim:
    return replace(claim, load=load)


def _larger_fraction(claim: Claim, pool: Pool) -> Iterator[tuple[str, Claim]]:
    assert claim.load is not None
    if claim.load.cards == 1 and claim.fraction < 1:
        share = ceil(claim.load.need().total / pool.card.memory * STEP_FRACTION + EPSILON) / STEP_FRACTION
        if share <= 1:
            yield f"set resources.gpu to {share:g}", replace(claim, fraction=share)


def _fewer(claim: Claim, load: Language, pool: Pool) -> Iterator[tuple[str, Claim]]:
    """The most sequences, and the longest context, that still fit."""
    vllm = load.runtime == "vllm"
    for count in range(load.sequences - 1, 0, -1):
        fewer = _with(claim, replace(load, sequences=count))
        if _fits(fewer, pool):
            yield f"set {'max_num_seqs' if vllm else 'slots'} to {count}", fewer
            break
    for tokens in range((load.tokens - 1) // STEP_TOKENS * STEP_TOKENS, SHORTEST_TOKENS - 1, -STEP_TOKENS):
        shorter = _with(claim, replace(load, tokens=tokens))
        if _fits(shorter, pool):
            yield f"set {'max_model_len' if vllm else 'context_tokens'} to {tokens}", shorter
            break


def _more_cards(claim: Claim, load: Language) -> Iterator[tuple[str, Claim]]:
    if load.runtime != "vllm":
        return
    smaller = replace(load, weights=AWQ4, stored=None)
    loads = [("", load)] if load.weights.linear < 5 else [("", load), ("quantize the weights to 4 bits and ", smaller)]
    for first, divided in loads:
        for cards in (2, 4, 8):
            if cards > load.cards:
                text = f"{first}set tensor_parallel and resources.gpu to {cards}"
                yield text, replace(claim, load=replace(divided, cards=cards), fraction=float(cards))


def _larger_hardware(claim: Claim, pool: Pool) -> Iterator[str]:
    """What would hold it, where nothing in the profile helps."""
    assert claim.load is not None
    for cards in (2, 4, 8):
        wide = replace(pool, per_node=cards)
        if isinstance(claim.load, Language) and any(_fits(c, wide) for _, c in _more_cards(claim, claim.load)):
            yield f"a node with {cards} x {pool.card.name} would hold it, with tensor_parallel {cards}"
            break
    need = claim.load.need().total
    holding = next((c.name for c in CARDS.values() if need <= c.budget(HIGHEST)), None)
    yield f"one {holding} would hold it" if holding else "no single card that is known would hold it"


def _largest_first(claims: Sequence[Claim]) -> list[Claim]:
    """In the order in which best fit wastes least; equal ones stay in the profile's order."""
    return sorted((claim for claim in claims if claim.fraction > 0), key=lambda claim: -claim.fraction)


def _no_room(claim: Claim, pools: Mapping[str, Pool]) -> str:
    cards = ", ".join(f"{(p.nodes or 0) * p.per_node} x {p.card.name}" for n in claim.classes if (p := pools.get(n)))
    return (
        f"{claim.engine}: no card of {', '.join(claim.classes)} ({cards or 'none named'}) has {claim.fraction:g} free "
        "beside what is always on; add a card, or let it start on demand (replicas.min: 0) with a stand-in"
    )


@dataclass(slots=True)
class _Seating:
    """Best fit, as Ray places a fraction: on the card with the least free share that is still enough."""

    pools: Mapping[str, Pool]
    seats: list[Seat] = field(default_factory=list)
    free: dict[str, list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.free = {name: [1.0] * (pool.per_node * (pool.nodes or 0)) for name, pool in self.pools.items()}

    def seat(self, claim: Claim, always: bool) -> bool:
        """Whether a place was found. A class without named cards has room for everything."""
        for name in claim.classes:
            pool = self.pools.get(name)
            if pool is None:
                return True
            cards = self._whole(name, pool, round(claim.fraction)) if claim.fraction > 1 else self._part(name, claim)
            if not cards and pool.nodes is None:
                cards = self._rent(name, pool, max(1, ceil(claim.fraction)))
            if cards:
                self._take(name, cards, claim, always)
                return True
        return False

    def _part(self, name: str, claim: Claim) -> tuple[int, ...]:
        open_cards = [(left, i) for i, left in enumerate(self.free[name]) if left >= claim.fraction - EPSILON]
        return (min(open_cards)[1],) if open_cards else ()

    def _whole(self, name: str, pool: Pool, count: int) -> tuple[int, ...]:
        """Free cards of one node, since tensor parallelism stays within one."""
        free = self.free[name]
        for start in range(0, len(free), pool.per_node):
            open_cards = [i for i in range(start, start + pool.per_node) if free[i] >= 1 - EPSILON]
            if len(open_cards) >= count:
                return tuple(open_cards[:count])
        return ()

    def _rent(self, name: str, pool: Pool, count: int) -> tuple[int, ...]:
        if count > pool.per_node:
            return ()
        start = len(self.free[name])
        self.free[name] += [1.0] * pool.per_node
        return tuple(range(start, start + count))

    def _take(self, name: str, cards: tuple[int, ...], claim: Claim, always: bool) -> None:
        for i in cards:
            self.free[name][i] -= claim.fraction / len(cards)
        self.seats.append(Seat(claim.engine, name, cards, claim.fraction / len(cards), always))
