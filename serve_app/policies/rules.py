"""The routing rules: each looks at the facts of a request and at the tables, and picks a model or passes.

A new rule is one function here and one name in `tables.RuleName`. Reasons end up in headers: ASCII, and never a word
of the prompt.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from serve_app.policies.language import Language
from serve_app.policies.tables import RoutingTables, RuleName, Trigger
from serve_app.types import Priority

SCAN_CHARS = 8_000
"""How much of a prompt the words and patterns are looked for in: half of it at the start, half at the end."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules may know of a request; names are those of the tables, whatever the caller's spelling."""

    text: str
    model: str | None = None
    zone: str | None = None
    task: str | None = None
    tier: Priority = Priority.STANDARD
    language: Language | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    model: str
    reason: str


Rule = Callable[[Facts, RoutingTables], Pick | None]


def by_model(facts: Facts, _: RoutingTables) -> Pick | None:
    return Pick(facts.model, f"model={facts.model}") if facts.model else None


def by_zone_task(facts: Facts, tables: RoutingTables) -> Pick | None:
    """The zone's own specialist for the task, which knows better than a larger model of the general table."""
    model = tables.zones[facts.zone].tasks.get(facts.task) if facts.zone and facts.task else None
    return Pick(model, f"zone={facts.zone} task={facts.task}") if model else None


def by_task(facts: Facts, tables: RoutingTables) -> Pick | None:
    if not facts.task:
        return None
    task = tables.tasks[facts.task]
    model = task.premium if task.premium and facts.tier is Priority.PREMIUM else task.model
    return Pick(model, f"task={facts.task} tier={facts.tier.name.lower()}")


def by_zone(facts: Facts, tables: RoutingTables) -> Pick | None:
    model = tables.zones[facts.zone].model if facts.zone else None
    return Pick(model, f"zone={facts.zone}") if model else None


def by_domain(facts: Facts, tables: RoutingTables) -> Pick | None:
    return _triggered(facts.text, tables.domains, "domain")


def by_keyword(facts: Facts, tables: RoutingTables) -> Pick | None:
    return _triggered(facts.text, tables.keywords, "keyword")


def by_length(facts: Facts, tables: RoutingTables) -> Pick | None:
    if not tables.length or len(facts.text) <= tables.length.over_chars:
        return None
    return Pick(tables.length.model, f"length>{tables.length.over_chars}")


def by_language(facts: Facts, tables: RoutingTables) -> Pick | None:
    model = tables.languages.get(facts.language) if facts.language else None
    return Pick(model, f"language={facts.language}") if model else None


def by_default(_: Facts, tables: RoutingTables) -> Pick | None:
    return Pick(tables.default, "default")


RULES: Mapping[RuleName, Rule] = {
    "model": by_model,
    "zone_task": by_zone_task,
    "task": by_task,
    "zone": by_zone,
    "domain": by_domain,
    "keyword": by_keyword,
    "length": by_length,
    "language": by_language,
    "default": by_default,
}


def picks(facts: Facts, tables: RoutingTables) -> list[Pick]:
    """What every rule says, in the order of the tables."""
    return [pick for name in tables.order if (pick := RULES[name](facts, tables))]


def matcher(trigger: Trigger) -> re.Pattern[str]:
    """One pattern for all words and patterns of a trigger; raises `re.error` for a pattern that is none.

    An ASCII word counts where no other ASCII letter or digit touches it: `fast` is found in "fast한" but not in
    "breakfast". A Korean word counts at the start of a word, with anything behind it, because particles and endings
    follow without a space: `코드` is found in "코드를" but not in "바코드".
    """
    return _compiled(trigger.words, trigger.patterns)


@lru_cache(maxsize=256)
def _compiled(words: tuple[str, ...], patterns: tuple[str, ...]) -> re.Pattern[str]:
    ascii_words = "|".join(re.escape(word) for word in words if word.isascii())
    other_words = "|".join(re.escape(word) for word in words if not word.isascii())
    parts = [f"(?:{pattern})" for pattern in patterns]
    if ascii_words:
        parts.append(rf"(?<![A-Za-z0-9_])(?:{ascii_words})(?![A-Za-z0-9_])")
    if other_words:
        parts.append(rf"(?<![가-힣])(?:{other_words})")
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def _triggered(text: str, triggers: Mapping[str, Trigger], kind: str) -> Pick | None:
    if len(text) > SCAN_CHARS:
        text = f"{text[: SCAN_CHARS // 2]}\n{text[-SCAN_CHARS // 2 :]}"
    composed = unicodedata.normalize("NFC", text)
    found = next((name for name, trigger in triggers.items() if matcher(trigger).search(composed)), None)
    return Pick(triggers[found].model, f"{kind}={found}") if found else None
