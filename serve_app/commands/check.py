"""`megacity check`: a profile's engines against the cards that they are to run on, without starting anything."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from serve_app.config import ON_PREM
from serve_app.errors import ConfigError
from serve_app.policies import placement
from serve_app.policies.architectures import Architecture, Fixed, Runtime, known
from serve_app.policies.cards import CONTEXT, GIB, Card, cap, card
from serve_app.policies.placement import AWQ4, FULL, GPTQ4, GPTQ8, HALF, INT8, Claim, Language, Load, Plan, Pool, Scheme
from serve_app.services import checkpoints
from serve_app.services.gpus import machine_cards

if TYPE_CHECKING:
    from serve_app.config import EngineEntry, Replicas, Settings
    from serve_app.engine import EngineOptions
    from serve_app.profile import Profile

CAPS = {
    "vllm": "gpu_memory_utilization",
    "torch": "set_per_process_memory_fraction",
    "ctranslate2": None,
    "mediapipe": None,
}


def run(options: argparse.Namespace, profile: "Profile") -> tuple[Any, str | None]:
    """The plan, as data if `options.json` is set, else as text; and the first problem, if there is one."""
    settings = profile.settings
    claims, refused = _claims(settings)
    pools, source = _pools(options, settings, claims)
    plan = placement.plan(claims, pools)
    problems = (*refused, *plan.problems)
    engines = [_engine_row(name, entry) for name, entry in settings.engines.items()]
    if options.json:
        result: Any = {
            "profile": str(profile.path),
            "ok": not problems,
            "problems": problems,
            "engines": engines,
            "placement": _document(plan, claims, pools, source),
        }
    else:
        head = "is good" if not problems else f"has {len(problems)} problem(s)"
        lines = [f"{profile.path.name} {head}", *map(_engine_line, engines), *_text(plan, claims, pools, source)]
        result = "\n".join([*lines, *(f"  problem: {problem}" for problem in problems)])
    return result, problems[0] if problems else None


def _engine_row(name: str, entry: "EngineEntry") -> dict[str, Any]:
    models = ", ".join(f"{model}@{m.version}" for model, m in entry.models.items())
    return {
        "name": name,
        "engine": entry.engine,
        "slots": entry.slots,
        "gpu": entry.resources.gpu,
        "models": models,
    }


def _engine_line(row: dict[str, Any]) -> str:
    return f"  {row['name']:<14} {row['engine']:<34} slots {row['slots']:<4} gpu {row['gpu']:<5} {row['models']}"


def _claims(settings: "Settings") -> tuple[list[Claim], list[str]]:
    """What each engine asks of a GPU, and what is wrong with checkpoints."""
    claims, refused = [], []
    for name, entry in settings.engines.items():
        try:
            load = _load(entry)
        except ConfigError as error:
            refused.append(f"engines.{name}.options.{error}")
            continue
        if entry.resources.gpu > 0:
            least, most = _replicas(entry.replicas)
            claims.append(Claim(name, load, entry.resources.gpu, _classes(entry), least, most))
    return claims, refused


def _replicas(replicas: "int | Replicas") -> tuple[int, int]:
    return (replicas, replicas) if isinstance(replicas, int) else (replicas.min, replicas.max)


def _classes(entry: "EngineEntry") -> list[str]:
    """The node classes of an engine; one that asks for a card by its label is a class of its own."""
    found = [":".join(filter(None, (labels.get("pool", ON_PREM), labels.get("gpu")))) for labels in entry.placement]
    return found or [ON_PREM]


def _load(entry: "EngineEntry") -> Load | None:
    """What the engine's model needs, from the names of its options. Raises ConfigError for a refused checkpoint.

    vLLM's engine is known by `max_model_len`, CTranslate2's by `compute_type`; any other by its model's name.
    """
    options = entry.engine_options()
    if hasattr(options, "max_model_len"):
        return _vllm(entry, options)
    model = next((found for name in _names(entry, options) if (found := known(name))), None)
    compute_type = str(getattr(options, "compute_type", getattr(options, "dtype", "float16")))
    if isinstance(model, Architecture):
        return Language(
            model,
            _ct2_scheme(compute_type, str(getattr(options, "path", ""))),
            tokens=_tokens(entry, getattr(options, "context_tokens", None)),
            sequences=entry.slots,
            kv_bits=32 if "float32" in compute_type else 16,
            runtime="ctranslate2",
        )
    if isinstance(model, Fixed):
        bits = 8 if compute_type.startswith("int8") else 32 if compute_type == "float32" else 16
        on: Runtime | None = "ctranslate2" if hasattr(options, "compute_type") else None
        return placement.Other(model, entry.slots, bits, on=on)
    return None


def _vllm(entry: "EngineEntry", options: Any) -> Load | None:
    checkpoints.check_revision(options.model, options.revision)
    path = checkpoints.folder(options.model)
    facts = checkpoints.read(path) if path else None
    found = facts.architecture if facts else next((m for n in _names(entry, options) if (m := known(n))), None)
    if not isinstance(found, Architecture):
        return None
    checkpoints.check_head_size(found, on_cpu=entry.resources.gpu == 0)
    for lora in filter(None, map(checkpoints.folder, options.loras.values())):
        checkpoints.refuse_code(lora)
    wanted = FULL if options.dtype == "float32" else HALF
    scheme = facts.scheme if facts and facts.scheme not in (HALF, FULL) else _named_scheme(options) or wanted
    return Language(
        found,
        scheme,
        tokens=_tokens(entry, options.max_model_len or (facts.context_tokens if facts else None)),
        sequences=options.max_num_seqs or entry.slots,
        cards=options.tensor_parallel or placement.cards_by_size(found.parameters),
        kv_bits=8 if str(options.kv_cache_dtype).startswith("fp8") else round(wanted.linear),
        runtime="vllm",
        stored=facts.loaded(wanted) if facts else None,
    )


def _names(entry: "EngineEntry", options: "EngineOptions") -> list[str]:
    named = [getattr(options, field, None) for field in ("model", "path", "pipeline")]
    return [*(name for name in named if isinstance(name, str)), *entry.models]


def _tokens(entry: "EngineEntry", said: int | None) -> int:
    return said or max((model.context_tokens for model in entry.models.values()), default=4096)


def _ct2_scheme(compute_type: str, path: str) -> Scheme:
    if "awq" in path.lower():
        return AWQ4
    if compute_type == "default":
        return INT8 if "int8" in path else HALF
    return INT8 if compute_type.startswith("int8") else FULL if compute_type == "float32" else HALF


def _named_scheme(options: Any) -> Scheme | None:
    """The scheme of a quantized checkpoint that is not here: its method, and 8 bits if its name says so."""
    method, name = options.quantization, options.model.lower()
    if method == "fp8" or (method == "compressed-tensors" and "fp8" in name):
        return placement.FP8
    if method is None and not any(mark in name for mark in ("gptq", "awq", "w4a16", "w8a16", "w8a8")):
        return None
    if any(mark in name for mark in ("int8", "8bit", "w8a16", "w8a8")):
        return GPTQ8
    return AWQ4 if "awq" in (method, *name.split("-")) else GPTQ4


def _pools(options: argparse.Namespace, settings: "Settings", claims: list[Claim]) -> tuple[dict[str, Pool], str]:
    """The cards of every node class, and where those of the on-prem nodes are known from.

    Named on the command line, else read from this machine, else from the profile's `cards`.
    """
    pools = {name: Pool(card(entry.card), entry.per_node, entry.nodes) for name, entry in settings.cards.items()}
    here = [] if options.gpu else machine_cards()
    source = "the profile"
    if options.gpu or options.gpus or here:
        pools[ON_PREM] = _named_pool(options, here, pools.get(ON_PREM))
        source = "this machine" if here else "the command line"
    for name in {name for claim in claims for name in claim.classes if ":" in name}:
        pool, label = name.split(":", 1)
        rented = pools.get(pool)
        pools[name] = Pool(_card(label), rented.per_node if rented else 1, rented.nodes if rented else None)
    return pools, source


def _named_pool(options: argparse.Namespace, here: list[Card], profile: Pool | None) -> Pool:
    if options.gpus is not None and options.gpus < 1:
        raise ConfigError("--gpus: give the number of cards in a node, 1 or more")
    if options.gpu:
        found = _card(options.gpu)
    elif here:
        found = min(here, key=lambda each: each.memory)
    elif profile:
        found = profile.card
    else:
        raise ConfigError("--gpus: say which cards, with --gpu")
    if here or profile is None:
        return Pool(found, options.gpus or len(here) or 1)
    return Pool(found, options.gpus or profile.per_node, profile.nodes)


def _card(name: str) -> Card:
    try:
        return card(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _text(plan: Plan, claims: list[Claim], pools: dict[str, Pool], source: str) -> list[str]:
    if not claims:
        return []
    named = {claim.engine: claim for claim in claims}
    lines = ["", "Memory on the cards, in GiB (weights + KV cache + work + CUDA context)"]
    for node_class, pool in pools.items():
        checks = [check for check in plan.checks if check.node_class == node_class]
        if checks:
            lines.append(f"  {node_class}: {_pool_text(pool)}{f', from {source}' if node_class == ON_PREM else ''}")
            lines += [_check_line(check, plan, named[check.engine]) for check in checks]
    lines += [f"  {name}: not planned; its model or its node's cards are unknown here" for name in plan.unknown]
    return lines + [f"  {name}: starts on demand, and waits while everything else runs" for name in plan.waiting]


def _pool_text(pool: Pool) -> str:
    nodes = "as many nodes as are asked for" if pool.nodes is None else f"{pool.nodes} node(s)"
    return f"{nodes} with {pool.per_node} x {pool.card.name} of {placement.gib(pool.card.memory)}"


def _check_line(check: placement.Check, plan: Plan, claim: Claim) -> str:
    need = check.need
    parts = " + ".join(placement.gib(size) for size in (need.weights, need.kv, need.work, need.context))
    seats = [seat for seat in plan.seats if (seat.engine, seat.node_class) == (check.engine, check.node_class)]
    places = ", ".join("+".join(str(i) for i in seat.cards) + ("" if seat.always else "*") for seat in seats)
    verdict = f"{placement.gib(check.budget - need.total)} left" if check.problem is None else "DOES NOT FIT"
    numbers = f"{parts} = {placement.gib(need.total)} of {placement.gib(check.budget)}"
    return (
        f"    {check.engine:<14} {claim.fraction:<5g} {numbers:<40} {verdict:<13} "
        f"{f'card {places}' if places else '-':<14} {_cap_text(check, claim)}"
    )


def _cap_text(check: placement.Check, claim: Claim) -> str:
    setting, share = _cap(check, claim)
    return f"{setting} {share}" if setting else "no cap of its own"


def _cap(check: placement.Check, claim: Claim) -> tuple[str | None, float | None]:
    """The engine's own limit, and its value; `(None, None)` where it has none."""
    setting = CAPS[claim.load.runtime] if claim.load else None
    fraction = claim.fraction / (claim.load.cards if claim.load else 1)
    return (setting, cap(fraction, check.card)) if setting and check.budget > CONTEXT else (None, None)


def _document(plan: Plan, claims: list[Claim], pools: dict[str, Pool], source: str) -> dict[str, Any]:
    named = {claim.engine: claim for claim in claims}
    return {
        "onprem_cards_from": source,
        "pools": {name: asdict(pool) for name, pool in pools.items()},
        "checks": [_check_document(check, named[check.engine]) for check in plan.checks],
        "seats": [asdict(seat) for seat in plan.seats],
        "unknown": plan.unknown,
        "waiting": plan.waiting,
    }


def _check_document(check: placement.Check, claim: Claim) -> dict[str, Any]:
    sizes = asdict(check.need) | {"total": check.need.total, "budget": check.budget}
    setting, share = _cap(check, claim)
    return {
        "engine": check.engine,
        "node_class": check.node_class,
        "card": check.card.name,
        "fraction": claim.fraction,
        "gib": {name: round(size / GIB, 3) for name, size in sizes.items()},
        "fits": check.problem is None,
        "problem": check.problem,
        "remedies": check.remedies,
        "cap": {"setting": setting, "value": share},
    }
