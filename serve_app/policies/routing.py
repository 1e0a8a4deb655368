"""Which model answers, and why: a pure function of the request, the catalogue and the engines' health.

What the caller says is looked up (`_facts`), the rules say who should answer (`rules.py`), what a model cannot do rules
it out (`_able`), and what is awake goes first (`_by_health`).
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Literal, cast

from serve_app.errors import BadRequest, Forbidden, MegaCityError, ModelNotFound, Unavailable
from serve_app.policies.language import Language, identify
from serve_app.policies.pricing import Tariff
from serve_app.policies.prompting import NO_TEMPLATE, Instruction, Templates, estimate_tokens
from serve_app.policies.rules import Facts, matcher, picks
from serve_app.policies.tables import RoutingTables
from serve_app.policies.versions import Switches, choose
from serve_app.types import Candidate, Chat, Decision, Job, Kind

__all__ = ["AUTO", "Candidate", "Catalogue", "Health", "Model", "Router", "RoutingTables", "Templates", "route_header"]

Health = Literal["ready", "waking", "broken"]

AUTO = "auto"
TEXT = frozenset({Kind.CHAT, Kind.COMPLETION})
HEADER_CHARS = 200
TOKENS_PER_MESSAGE = 5
"""What a chat template adds around a message; ChatML, the longest of those in use, adds five."""

ESTIMATE_AT_MOST_TIMES = 4
"""A prompt takes at least this part of its estimated tokens. In between, the engine counts exactly and decides."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the catalogue, as the profile describes it."""

    id: str
    engine: str
    version: str = "1"
    kinds: frozenset[Kind] = frozenset({Kind.CHAT, Kind.COMPLETION})
    node_class: str = "onprem"
    context_tokens: int = 4096
    capabilities: frozenset[str] = frozenset()
    stand_in: str | None = None
    owned_by: str = "megacity"
    pools: frozenset[str] = frozenset()
    """Every pool that a prompt may get to; empty: that of the node class."""
    region: str = ""

    def stays_in(self, pools: frozenset[str]) -> bool:
        return (self.pools or {self.node_class}) <= pools


Catalogue = Mapping[str, Model]
Versions = Mapping[str, Mapping[str, Model]]


@dataclass(frozen=True, slots=True)
class _Choice:
    model: Model
    reasons: tuple[str, ...]
    wakes: str | None = None

    def noting(self, note: str) -> "_Choice":
        return replace(self, reasons=(*self.reasons, note))


def route_header(decision: Decision) -> str:
    """The decision in one short ASCII line, such as `task=math_tutor,tier=standard -> qwen2.5-14b-instruct`."""
    why, *notes = decision.reasons or ("default",)
    line = f"{why.replace(' ', ',')} -> {decision.model}" + (f" ({'; '.join(notes)})" if notes else "")
    return line.encode("ascii", "replace").decode()[:HEADER_CHARS]


class Router:
    """Raises `ValueError` for tables that name what the catalogue or the templates don't have."""

    def __init__(
        self,
        tables: RoutingTables,
        catalogue: Catalogue,
        templates: Templates,
        versions: Versions | None = None,
        tariff: Tariff | None = None,
    ) -> None:
        self.tables = tables
        self.catalogue = catalogue
        self.versions = versions or {name: {model.version: model} for name, model in catalogue.items()}
        self.templates = templates
        self.tariff = tariff or Tariff()
        self._models = {name.casefold(): name for name in catalogue}
        self._zones = {name.casefold(): name for name in tables.zones}
        self._tasks = {name.casefold(): name for name in tables.tasks}
        self._aliases = {alias.casefold(): target for alias, target in tables.aliases.items()}
        self._hosts = {host.casefold(): name for name, zone in tables.zones.items() for host in zone.hosts}
        self._check()

    def names(self) -> list[str]:
        """Every name that `model` may hold."""
        return [AUTO, *self.catalogue, *self.tables.aliases, *self.tables.zones]

    def hosts(self) -> list[str]:
        """The host names that belong to zones."""
        return list(self._hosts)

    def decide(
        self, job: Job, health: Mapping[str, Health], switches: Switches = MappingProxyType({})
    ) -> tuple[Candidate, ...]:
        """Candidates, best first, at least one. `switches` says which version of a model is active.

        Raises `ModelNotFound`, `Forbidden` (a zone that the key is not for), `BadRequest` (a name that does not exist,
        or nothing configured can do what is asked) and `Unavailable` (what could do it is down).
        """
        facts = self._facts(job)
        instruction = self._instruction(job, facts)
        ranked = [self._versioned(choice, job, switches) for choice in self._ranked(facts, job)]
        able = _able(job, ranked[:1] if facts.model else ranked, instruction, self._pools(facts, job))
        ordered = _waited_for(able[0], health) if facts.model else _by_health(able, health)
        return tuple(_candidate(choice, ordered, job, instruction, facts.zone) for choice in ordered)

    def _asked(self, name: str) -> tuple[str | None, str | None]:
        """The model or the zone that the request's `model` names; neither for `auto` and its aliases."""
        target = self._aliases.get(name.casefold(), name).casefold()
        if target in ("", AUTO):
            return None, None
        family, _, version = target.partition("@")
        if version and version in self.versions.get(self._models.get(family, ""), {}):
            return self._models[family], None
        if target in self._models or target in self._zones:
            return self._models.get(target), self._zones.get(target)
        known = self.names()
        close = difflib.get_close_matches(target[:64], [k.casefold() for k in known], n=1)
        hint = next((f" Did you mean '{k}'?" for k in known if close and k.casefold() == close[0]), "")
        raise ModelNotFound(
            f"The model '{name[:64]}' does not exist.{hint} GET /v1/models lists those that do;"
            f" '{AUTO}' lets the router choose.",
            param="model",
        )

    def _facts(self, job: Job) -> Facts:
        text = job.payload.text
        model, zone_asked = self._asked(job.wish.model)
        return Facts(
            text=text,
            model=model,
            zone=self._zone(job, zone_asked),
            task=_known(job.wish.task, self._tasks, "task"),
            tier=job.caller.tier,
            language=_language_of(job.wish.locale) or identify(text),
        )

    def _zone(self, job: Job, zone_asked: str | None) -> str | None:
        """From the request, the host name, or a key that is for one zone only; and the key must allow it."""
        allowed = {zone.casefold(): zone for zone in job.caller.zones}
        asked = _known(job.wish.zone, self._zones, "zone") or zone_asked or self._zone_of_host(job.wish.host)
        if asked and allowed and asked.casefold() not in allowed:
            raise Forbidden(
                f"This key is not for the zone {asked}; it is for {', '.join(allowed.values())}. Use another key.",
                param="metadata.zone",
            )
        return asked or (self._zones.get(next(iter(allowed))) if len(allowed) == 1 else None)

    def _zone_of_host(self, host: str | None) -> str | None:
        """The zone that lists the host or one of the domains above it."""
        labels = re.sub(r":\d+$", "", host or "").rstrip(".").casefold().split(".")
        domains = (".".join(labels[i:]) for i in range(len(labels)))
        return next((self._hosts[domain] for domain in domains if domain in self._hosts), None)

    def _pools(self, facts: Facts, job: Job) -> frozenset[str] | None:
        """The pools that the request may get to, by every rule together; None if there is no rule.

        A key that is for some zones only, and does not say for which it asks, keeps the rules of all of them.
        """
        zones = [facts.zone] if facts.zone else [self._zones.get(zone.casefold()) for zone in job.caller.zones]
        rules = [self.tables.stays, job.caller.pools, job.constraints.pools]
        rules += [self.tables.zones[zone].stays for zone in zones if zone]
        rules += [self.tables.tasks[facts.task].stays] if facts.task else []
        kept = [frozenset(rule) for rule in rules if rule]
        return frozenset.intersection(*kept) if kept else None

    def _instruction(self, job: Job, facts: Facts) -> Instruction | None:
        """The template that the caller asks for, or the task's, or the zone's; a bare completion has none."""
        wish, language = job.wish.template, None
        if wish:
            name, language = (None, None) if wish.casefold() == NO_TEMPLATE else self.templates.find(wish)
        elif facts.task:
            task = self.tables.tasks[facts.task]
            name = task.template or (facts.task if facts.task in self.templates.tasks else None)
        else:
            name = self.tables.zones[facts.zone].template if facts.zone else None
        if not name or not isinstance(job.payload, Chat):
            return None
        return self.templates.instruction(name, language or facts.language)

    def _ranked(self, facts: Facts, job: Job) -> list[_Choice]:
        """What the rules say, then everything else that is there, every model once. The rules are about language
        models; of any other kind whatever answers it is in the running, in the profile's order."""
        kind = job.kind
        if kind not in TEXT and not facts.model:
            return [_Choice(model, (f"kind {kind}",)) for model in self.catalogue.values() if kind in model.kinds]
        ruled = ((self._resolve(pick.model), pick.reason) for pick in picks(facts, self.tables))
        first: dict[str, str] = {}
        for name, reason in chain(ruled, self._fallbacks(job)):
            first.setdefault(name, reason)
        return [_Choice(self.catalogue[name], (reason,)) for name, reason in first.items()]

    def _fallbacks(self, job: Job) -> Iterator[tuple[str, str]]:
        """Who else may answer, as the steps of the retreat say, and why."""
        if not self.tables.retreat:
            yield from ((name, "fallback") for name in self.catalogue)
        for step in self.tables.retreat:
            for model in self.catalogue.values():
                price = self.tariff.prices.get((model.id, model.version))
                cost = price.estimate(job.payload, None) if price and step.at_most_usd is not None else 0
                if model.node_class == step.pool and step.takes(job.constraints.priority, cost):
                    yield model.id, f"fallback pool={step.pool}"

    def _versioned(self, choice: _Choice, job: Job, switches: Switches) -> _Choice:
        """The choice with the version that is asked for (`model@version`), or else the one in force for the caller."""
        family = self.versions[choice.model.id]
        asked = self._aliases.get(job.wish.model.casefold(), job.wish.model).partition("@")[2]
        if asked in family:
            return replace(choice, model=family[asked])
        model, note = choose(family, switches.get(choice.model.id), job.caller.user or job.id)
        return replace(choice, model=model) if note is None else replace(choice, model=model).noting(note)

    def _resolve(self, name: str) -> str:
        """The catalogue's name of a model that a table names by its id or an alias."""
        target = self._aliases.get(name.casefold(), name)
        return self._models.get(target.casefold(), target)

    def _check(self) -> None:
        if not self.catalogue:
            raise ValueError("engines: no engine serves a model; add one under `models:`")
        for key, name in self.tables.models().items():
            if self._resolve(name) not in self.catalogue:
                raise ValueError(f"routing.{key}: no engine serves '{name}'; models: {', '.join(self.catalogue)}")
        for model in self.catalogue.values():
            if model.stand_in and model.stand_in not in self.catalogue:
                raise ValueError(f"models.{model.id}.stand_in: no engine serves '{model.stand_in}'")
        self._check_names()
        self._check_pools()
        self._check_aliases()
        self._check_templates()
        self._check_triggers()

    def _check_names(self) -> None:
        tables = self.tables
        for name in chain(self.catalogue, tables.zones, tables.tasks, tables.domains, tables.keywords):
            if not (name.isascii() and name.isprintable()):
                raise ValueError(f"'{name}': names end up in headers; use ASCII letters, digits and signs")
        hosts = [host.casefold() for zone in tables.zones.values() for host in zone.hosts]
        if len(hosts) != len(self._hosts):
            twice = next(host for host in hosts if hosts.count(host) > 1)
            raise ValueError(f"routing.zones: the host '{twice}' belongs to two zones; leave it in one")
        for name, zone in tables.zones.items():
            unknown = [task for task in zone.tasks if task not in tables.tasks]
            if unknown:
                raise ValueError(
                    f"routing.zones.{name}.tasks.{unknown[0]}: no such task; tasks: {', '.join(tables.tasks)}"
                )

    def _check_pools(self) -> None:
        stays = {"": self.tables.stays}
        stays |= {f"zones.{name}.": zone.stays for name, zone in self.tables.zones.items()}
        stays |= {f"tasks.{name}.": task.stays for name, task in self.tables.tasks.items()}
        for key, pools in stays.items():
            if pools and not any(model.stays_in(frozenset(pools)) for model in self.catalogue.values()):
                raise ValueError(f"routing.{key}stays: no model stays in {', '.join(pools)} in every case")
        known = {model.node_class for model in self.catalogue.values()}
        for step in self.tables.retreat:
            if step.pool not in known:
                raise ValueError(f"routing.retreat: no model is in the pool '{step.pool}'; pools: {', '.join(known)}")

    def _check_aliases(self) -> None:
        for alias, target in self.tables.aliases.items():
            if alias.casefold() in self._models:
                raise ValueError(f"routing.aliases.{alias}: a model has that name; remove the alias")
            if target.casefold() not in {AUTO, *self._models, *self._zones}:
                raise ValueError(f"routing.aliases.{alias}: '{target}' is neither '{AUTO}', a model nor a zone")

    def _check_templates(self) -> None:
        named = {f"tasks.{name}": task.template for name, task in self.tables.tasks.items()}
        named |= {f"zones.{name}": zone.template for name, zone in self.tables.zones.items()}
        for key, template in named.items():
            if template and template not in self.templates.tasks:
                raise ValueError(f"routing.{key}.template: no template '{template}' under templates.tasks")

    def _check_triggers(self) -> None:
        for name, trigger in chain(self.tables.domains.items(), self.tables.keywords.items()):
            try:
                matcher(trigger)
            except re.error as error:
                raise ValueError(f"routing: the patterns of '{name}' are no regular expressions: {error}") from error


def _known(name: str | None, known: Mapping[str, str], what: str) -> str | None:
    """The table's spelling of what a caller names; raises `BadRequest` listing what exists."""
    if name is None:
        return None
    if name.casefold() not in known:
        listed = ", ".join(known.values()) or "(none configured)"
        raise BadRequest(f"Unknown {what}. Valid ones: {listed}.", param=f"metadata.{what}")
    return known[name.casefold()]


def _language_of(locale: str | None) -> Language | None:
    """`ko` for `ko-KR`; `None` for what is no locale."""
    code = re.match(r"[a-z]{2,3}(?=[-_]|$)", (locale or "").casefold())
    if not code:
        return None
    return cast(Language, code.group()) if code.group() in ("ko", "en", "ja", "zh") else "other"


def _able(
    job: Job, ranked: list[_Choice], instruction: Instruction | None, pools: frozenset[str] | None
) -> list[_Choice]:
    """The choices that can do the job, those that surely have room for it first.

    `max_tokens` is an upper bound that stock clients set high, so it orders the choices and rules none out.
    """
    at_most, room = _tokens(job, instruction), job.payload.sampling.max_tokens or 1
    at_least = at_most // ESTIMATE_AT_MOST_TIMES
    wish, regions = job.wish, job.constraints.regions
    filters: tuple[tuple[str, Callable[[Model], bool], Callable[[list[_Choice]], MegaCityError]], ...] = (
        ("kind", lambda m: job.kind in m.kinds, lambda c: _no_kind(job, c)),
        ("features", lambda m: wish.needs <= m.capabilities, lambda c: _no_feature(job, c)),
        ("pool", lambda m: pools is None or m.stays_in(pools), lambda _: _no_pool(pools)),
        ("region", lambda m: not regions or m.region in ("", *regions), lambda _: _no_pool(regions)),
        ("context", lambda m: at_least < m.context_tokens, lambda c: _no_room(job, c, at_most)),
    )
    able, notes = ranked, []
    for name, keep, refusal in filters:
        kept = [choice for choice in able if keep(choice.model)]
        if not kept:
            raise refusal(able)
        if kept[0] is not able[0]:
            notes.append(f"{able[0].model.id} passed over: {name}")
        able = kept
    able.sort(key=lambda choice: at_most + room > choice.model.context_tokens)
    return [replace(able[0], reasons=(*able[0].reasons, *notes)), *able[1:]]


def _tokens(job: Job, instruction: Instruction | None) -> int:
    """What the prompt takes at most, instructions included; nothing of a model that reads no prompt."""
    if job.kind not in TEXT:
        return 0
    if not isinstance(job.payload, Chat):
        return estimate_tokens(job.payload.text)
    texts = [*job.payload.texts, *([instruction.text] if instruction else [])]
    return estimate_tokens("\n".join(texts)) + TOKENS_PER_MESSAGE * len(texts)


def _no_kind(job: Job, choices: list[_Choice]) -> MegaCityError:
    who = f"The model {choices[0].model.id}" if len(choices) == 1 else "No configured model"
    does = "does not answer" if len(choices) == 1 else "answers"
    return BadRequest(f"{who} {does} requests of the kind '{job.kind}'. Choose another model or route.", param="model")


def _no_feature(job: Job, choices: list[_Choice]) -> MegaCityError:
    wanted = job.wish.needs
    lacking = wanted - frozenset(chain.from_iterable(choice.model.capabilities for choice in choices)) or wanted
    features = ", ".join(sorted(lacking))
    who = f"The model {choices[0].model.id} does not support" if len(choices) == 1 else "No configured model supports"
    together = "" if lacking != wanted or len(wanted) == 1 else " together"
    return BadRequest(f"{who} {features}{together}. Leave it out or choose another model.", code="unsupported_feature")


def _no_pool(allowed: Iterable[str] | None) -> MegaCityError:
    where = ", ".join(sorted(allowed or ())) or "no pool that all of its rules allow"
    return BadRequest(f"Nothing that can answer this stays where it has to: {where}.", code="nowhere_allowed")


def _no_room(job: Job, choices: list[_Choice], tokens: int) -> MegaCityError:
    largest = max((choice.model for choice in choices), key=lambda model: model.context_tokens)
    return BadRequest(
        f"The prompt takes about {tokens} tokens, but the longest context that can be used is that of"
        f" {largest.id}, {largest.context_tokens} tokens. Shorten the prompt.",
        param="messages" if isinstance(job.payload, Chat) else "prompt",
        code="context_length_exceeded",
    )


def _waited_for(choice: _Choice, health: Mapping[str, Health]) -> list[_Choice]:
    """A model that was asked for by name is waited for; nothing stands in."""
    state = _state(choice, health)
    if state == "broken":
        raise Unavailable(f"The model {choice.model.id} is down. Try again, or let the router choose with '{AUTO}'.")
    return [choice.noting(f"{choice.model.id} is waking") if state == "waking" else choice]


def _by_health(choices: list[_Choice], health: Mapping[str, Health]) -> list[_Choice]:
    """What is ready in the given order, then what is waking; if the best is not ready, its stand-in comes first."""
    best = choices[0]
    state = _state(best, health)
    ready = [choice for choice in choices if _state(choice, health) == "ready"]
    waking = [choice for choice in choices if _state(choice, health) == "waking"]
    if not ready and not waking:
        raise Unavailable("Every model that could answer this is down. Try again shortly.")
    if state == "ready":
        return ready + waking
    if not ready:
        return [waking[0].noting(f"{waking[0].model.id} is waking"), *waking[1:]]
    second = next((choice for choice in ready if choice.model.id == best.model.stand_in), ready[0])
    why = "is waking" if state == "waking" else "is down"
    reasons = (*best.reasons, f"{best.model.id} {why}; {second.model.id} stands in")
    stand_in = _Choice(second.model, reasons, best.model.engine if state == "waking" else None)
    return [stand_in, *(choice for choice in ready if choice is not second), *waking]


def _state(choice: _Choice, health: Mapping[str, Health]) -> Health:
    return health.get(choice.model.engine, "ready")


def _candidate(
    choice: _Choice, ordered: Iterable[_Choice], job: Job, instruction: Instruction | None, zone: str | None
) -> Candidate:
    model = choice.model
    decision = Decision(
        engine=model.engine,
        model=model.id,
        version=model.version,
        node_class=model.node_class,
        template=instruction.name if instruction else None,
        priority=job.constraints.priority,
        reasons=choice.reasons,
        alternatives=tuple(other.model.id for other in ordered if other.model.id != model.id),
        zone=zone,
    )
    return Candidate(decision, instruction.text if instruction else None, choice.wakes)
