"""The routing tables of a profile: which model answers what, as data.

Wherever a table says `model` it may name a model of the catalogue or an alias of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Literal

from serve_app.types import Priority

RuleName = Literal["model", "zone_task", "task", "zone", "domain", "keyword", "length", "language", "default"]

PRECEDENCE: tuple[RuleName, ...] = (
    "model",
    "zone_task",
    "task",
    "zone",
    "domain",
    "keyword",
    "length",
    "language",
    "default",
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One of the platform's sites. `tasks` are those that the zone's own model was made for.

    With `stays`, its requests are answered in these pools and never elsewhere.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str | None = None
    hosts: tuple[str, ...] = ()
    tasks: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    stays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """The model for a task; `premium` is the one for callers of the premium tier (the plan's "pro"). `stays`: see
    `Zone`."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str
    premium: str | None = None
    template: str | None = None
    stays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trigger:
    """A model for prompts in which one of `words` occurs or one of the regular expressions in `patterns` matches."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Length:
    """A model for prompts with more than `over_chars` characters."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    over_chars: int
    model: str


@dataclass(frozen=True, slots=True)
class Step:
    """A pool to fall back on: for requests of these priorities (none: all), and up to this estimated cost of one."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    pool: str
    tiers: tuple[Literal["premium", "standard", "batch"], ...] = ()
    at_most_usd: Decimal | None = None

    def takes(self, priority: Priority, nano_usd: int) -> bool:
        dear = self.at_most_usd is not None and nano_usd > self.at_most_usd * 10**9
        return not dear and (not self.tiers or priority.name.lower() in self.tiers)


@dataclass(frozen=True, slots=True)
class RoutingTables:
    """Everything that the rules look things up in.

    `order` is their precedence, and a rule that is not in it does not apply; what the caller asks for by name comes
    first in any order. Ours goes from what was said about this one request to what is guessed from its text: the zone's
    own specialist for the stated task, the stated task, the site it came from, then the text itself.

    `retreat` says where a request goes that nobody of those can take, pool by pool. A pool that is not in it is used
    only if a rule or the caller names one of its models. Without it every model stands in for every other. `stays` is
    as in `Zone`, for all requests.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    default: str
    order: tuple[RuleName, ...] = PRECEDENCE
    aliases: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    domains: Mapping[str, Trigger] = field(default_factory=dict)
    keywords: Mapping[str, Trigger] = field(default_factory=dict)
    length: Length | None = None
    languages: Mapping[str, str] = field(default_factory=dict)
    stays: tuple[str, ...] = ()
    retreat: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if not self.order or self.order[0] != "model":
            raise ValueError(
                "routing.order: must start with 'model', because a model that is asked for by name is used"
            )

    def models(self) -> dict[str, str]:
        """Every model that a table names, by the key under which it stands."""
        named = {"default": self.default}
        for name, zone in self.zones.items():
            named |= {f"zones.{name}.tasks.{task}": model for task, model in zone.tasks.items()}
            if zone.model:
                named[f"zones.{name}.model"] = zone.model
        for name, task in self.tasks.items():
            named[f"tasks.{name}.model"] = task.model
            if task.premium:
                named[f"tasks.{name}.premium"] = task.premium
        named |= {f"domains.{name}.model": trigger.model for name, trigger in self.domains.items()}
        named |= {f"keywords.{name}.model": trigger.model for name, trigger in self.keywords.items()}
        named |= {f"languages.{code}": model for code, model in self.languages.items()}
        return named | ({"length.model": self.length.model} if self.length else {})
