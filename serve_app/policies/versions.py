"""Which version of a model answers: the active one, or for a stable share of callers the canary."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Versioned(Protocol):
    """What this policy needs to know of a model."""

    @property
    def id(self) -> str: ...
    @property
    def version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Switch:
    """What is in force for one model. `share` is the canary's part of the callers, from 0 to 1."""

    active: str
    canary: str | None = None
    share: float = 0.0


Switches = Mapping[str, Switch]
M = TypeVar("M", bound=Versioned)


def by_version(models: Iterable[M]) -> dict[str, dict[str, M]]:
    """Every version of every model, in the profile's order."""
    families: dict[str, dict[str, M]] = {}
    for model in models:
        families.setdefault(model.id, {})[model.version] = model
    return families


def choose(family: Mapping[str, M], switch: Switch | None, who: str) -> tuple[M, str | None]:
    """The version for the caller `who`, and a note if it is the canary.

    Without a switch, or with one that names a version which is gone, the first of the profile is active. The same
    caller stays with the same version as long as the share is the same; a larger share only adds callers.
    """
    first = next(iter(family.values()))
    if switch is None:
        return first, None
    if switch.canary and switch.canary in family and _fraction(first.id, who) < switch.share:
        return family[switch.canary], f"canary {switch.canary}"
    return family.get(switch.active, first), None


def _fraction(model: str, who: str) -> float:
    """A number in [0, 1) that depends on nothing but the model and the caller."""
    digest = hashlib.sha256(f"{model}\0{who}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
