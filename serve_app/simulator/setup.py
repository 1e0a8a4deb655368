"""What is simulated: the engines, the machines and their prices, as the policy's `cfg`, checked beforehand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.errors import ConfigError

Cfg = dict[str, Any]

LLM: dict[str, Any] = {
    "slots": {"own": 8, "cloud": 12},
    "fixed": 0.0,
    "prefill": 2500.0,
    "tpot": 0.022,
    "cold": {"own": 40.0, "cloud": 120.0},
    "wait": 5.0,
}
"""A 32B model in AWQ, on a 5090 or on a larger card in the cloud. Seconds, tokens per second, seconds per token."""

GENERATION: dict[str, Any] = {
    "slots": {"own": 4, "cloud": 6},
    "fixed": 2.0,
    "prefill": 8000.0,
    "tpot": 0.0,
    "cold": {"own": 25.0, "cloud": 180.0},
    "wait": 10.0,
    "od_per_h": 2.00,
    "spot_per_h": 0.60,
}
"""Pictures: a fixed time and reading the prompt. It fits a smaller card in the cloud, which has prices of its own."""

KNOWN: dict[str, dict[str, Any]] = {
    "gen": GENERATION,
    "generation": GENERATION,
    "reason": LLM | {"wait": 10.0},
    "reasoning": LLM | {"wait": 10.0},
}
"""Engines that are not a plain LLM, by the name they have in a trace."""

MACHINES: dict[str, Any] = {
    "tick_s": 10.0,
    "own_gpus": 3,
    "od_per_h": 4.00,
    "spot_per_h": 1.20,
    "kwh": 0.12,
    "w_idle": 30.0,
    "w_busy": 575.0,
    "min_bill_s": 60.0,
}

POSITIVE = ("tick_s",)
NOT_NEGATIVE = ("own_gpus", "od_per_h", "spot_per_h", "kwh", "w_idle", "w_busy", "min_bill_s")
OF_ENGINE = ("slots", "fixed", "prefill", "tpot", "cold", "wait")
PLACES = ("own", "cloud")


def default_setup(engines: list[str], **changes: Any) -> Cfg:
    """The setup of the plan for the engines of a trace; `changes` replace keys of `MACHINES`."""
    return checked(MACHINES | changes | {"engines": {name: dict(KNOWN.get(name, LLM)) for name in engines}})


def read_setup(path: Path) -> Cfg:
    """A setup from a JSON file. Every key is needed: a price that is left out is not a price of nothing."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path.name} must hold a JSON object with the keys {', '.join(MACHINES)} and engines")
    return checked(found)


def checked(cfg: Mapping[str, Any]) -> Cfg:
    """The same setup. Raises `ConfigError` with a line that names the key that is missing or senseless."""
    for key in (*POSITIVE, *NOT_NEGATIVE):
        _number(cfg, key, "", above=key in POSITIVE)
    engines = cfg.get("engines")
    if not isinstance(engines, Mapping) or not engines:
        raise ConfigError("engines is missing from the setup: name at least one, with " + ", ".join(OF_ENGINE))
    for name, engine in engines.items():
        _check_engine(engine, f"engines.{name}.")
    return dict(cfg)


def _check_engine(engine: Any, where: str) -> None:
    if not isinstance(engine, Mapping):
        raise ConfigError(f"{where[:-1]} must be an object with {', '.join(OF_ENGINE)}")
    for key in ("fixed", "tpot"):
        _number(engine, key, where)
    for key in ("prefill", "wait"):
        _number(engine, key, where, above=True)
    for key in ("od_per_h", "spot_per_h"):
        if key in engine:
            _number(engine, key, where)
    for group, above in (("slots", True), ("cold", False)):
        for place in PLACES:
            _number(engine.get(group) or {}, place, f"{where}{group}.", above=above)


def _number(mapping: Mapping[str, Any], key: str, where: str, *, above: bool = False) -> None:
    if key not in mapping:
        raise ConfigError(f"{where}{key} is missing from the setup")
    value = mapping[key]
    good = isinstance(value, int | float) and not isinstance(value, bool) and (value > 0 if above else value >= 0)
    if not good:
        raise ConfigError(f"{where}{key} must be a number {'above' if above else 'of at least'} 0, not {value!r}")
