"""Profiles: Serve config files with our own settings under `applications[0].args`, read strictly.

Serve itself accepts keys that it does not know, so its part of the file is held to the same rule here: an unknown key,
a wrong type or a module that does not exist is refused in one line that names the key and the remedy.
"""

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from serve_app.engine import Engine, EngineOptions
from serve_app.errors import ConfigError
from serve_app.policies.access import AccessRules, is_loopback
from serve_app.policies.caching import CacheRules
from serve_app.policies.cards import card as known_card
from serve_app.policies.limits import Limits
from serve_app.policies.ondemand import OnDemand
from serve_app.policies.pricing import Node, Price, Tariff, TokenPrices
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router, RoutingTables, Versions
from serve_app.policies.schedule import Schedule
from serve_app.policies.versions import by_version
from serve_app.services.home import home
from serve_app.types import Kind

PROFILES = Path(__file__).parent / "profiles"
ON_PREM = "onprem"
RENTED = ("spot", "ondemand")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelEntry(Strict):
    version: str = "1"
    context_tokens: PositiveInt = 4096
    capabilities: frozenset[str] = frozenset()
    stand_in: str | None = None
    owned_by: str = "megacity"
    price: TokenPrices = TokenPrices()


class Replicas(Strict):
    """Autoscaling bounds; `target_ongoing` is the number of requests that one replica should have at a time."""

    min: NonNegativeInt = 1
    max: PositiveInt = 1
    target_ongoing: PositiveFloat = 2.0


class Resources(Strict):
    """Bookkeeping for the scheduler, per replica: CPU cores and a fraction of a GPU."""

    cpu: float = Field(default=0.0, ge=0)
    gpu: float = Field(default=0.0, ge=0)


class EngineEntry(Strict):
    """One engine of a profile; its name is its key, and its deployment's name on the Ray dashboard.

    `drain_s`: how long a replica that is to go may finish what it has begun. On spot machines it comes off the notice.
    """

    engine: str
    options: dict[str, Any] = {}
    slots: PositiveInt = 1
    waiting: NonNegativeInt = 64
    replicas: PositiveInt | Replicas = 1
    drain_s: PositiveFloat = 30.0
    resources: Resources = Resources()
    placement: list[dict[str, str]] = []
    needs: dict[str, str] = {}
    models: dict[str, ModelEntry] = {}

    @property
    def node_class(self) -> str:
        """Where its answers are made: the pool of its nodes, unless it passes on what it is sent."""
        away = self._away()
        return away[0] if away else self._pool(self.placement[0] if self.placement else {})

    @property
    def region(self) -> str:
        away = self._away()
        return away[1] if away else next((labels["region"] for labels in self.placement if "region" in labels), "")

    def pools(self) -> frozenset[str]:
        """Every pool that a prompt may get to through this engine alone."""
        away = self._away()
        return frozenset([*map(self._pool, self.placement or [{}]), *([away[0]] if away else [])])

    def _away(self) -> tuple[str, str] | None:
        return self.engine_class().whereabouts(self.engine_options())

    @staticmethod
    def _pool(labels: dict[str, str]) -> str:
        return labels.get("pool", ON_PREM)

    @property
    def most_replicas(self) -> int:
        return self.replicas.max if isinstance(self.replicas, Replicas) else self.replicas

    def engine_class(self) -> type[Engine]:
        return load_class(self.engine)

    def engine_options(self) -> EngineOptions:
        return self.engine_class().Options.model_validate(self.options)


class Address(Strict):
    """Where a door listens. Every ingress replica of a node shares the port; the kernel spreads connections.

    What else an address that is not loopback needs is in `serve_app/exposure.py`.
    """

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=1, le=65535)


class GrpcAddress(Address):
    port: int = Field(default=9000, ge=1, le=65535)


class IngressEntry(Strict):
    """The deployment that holds the doors. `drain_s`: how long it waits for what is in flight before it goes.

    `placement`: labels of the nodes that hold them, in the order of preference; without it any node may.
    """

    replicas: PositiveInt = 1
    http: Address = Address()
    grpc: GrpcAddress = GrpcAddress()
    drain_s: PositiveFloat = 20.0
    placement: list[dict[str, str]] = []

    def exposed(self) -> str | None:
        """An address of a door that other machines may reach."""
        return next((door.host for door in (self.http, self.grpc) if not is_loopback(door.host)), None)


class StoreEntry(Strict):
    """Where accounts are kept, as an SQLAlchemy URL. `required: false` answers also while the store is away."""

    url: str = Field(default_factory=lambda: f"sqlite:///{home() / 'megacity.db'}")
    required: bool = True


class Cards(Strict):
    """The GPUs of a node class, for `megacity check`. `nodes: null`: as many as are asked for can be rented."""

    card: str
    per_node: PositiveInt = 1
    nodes: PositiveInt | None = 1

    @field_validator("card")
    @classmethod
    def _known(cls, name: str) -> str:
        known_card(name)
        return name


class ByPlace(Strict):
    """One figure for own machines and one for rented ones."""

    own: NonNegativeFloat
    cloud: NonNegativeFloat


class FleetEngine(Strict):
    """An engine as the fleet policy sees it: seconds from nothing to ready, and how long most requests may wait.

    `fixed_s`, `prefill_per_s` and `token_s` say what a request takes until that has been measured. `schedule` narrows
    the number of replicas by the hour; `on_demand` says when an engine that may sleep goes back to sleep.
    """

    cold_s: ByPlace = ByPlace(own=40.0, cloud=120.0)
    wait_s: PositiveFloat = 5.0
    cloud_slots: PositiveInt | None = None
    fixed_s: NonNegativeFloat = 0.0
    prefill_per_s: NonNegativeFloat = 0.0
    token_s: NonNegativeFloat = 0.0
    od_per_h: NonNegativeFloat | None = None
    spot_per_h: NonNegativeFloat | None = None
    schedule: Schedule | None = None
    on_demand: OnDemand = OnDemand()


class FleetEntry(Strict):
    """One policy for the number of replicas of all engines that are named here (docs/fleet.md).

    `own_replicas`: how many of their replicas the own GPUs hold together. Prices are in dollars per hour of a rented
    machine; `clock` names a function that gives the time, for tests.
    """

    own_replicas: NonNegativeInt
    od_per_h: NonNegativeFloat
    spot_per_h: NonNegativeFloat
    engines: dict[str, FleetEngine] = Field(min_length=1)
    tick_s: PositiveFloat = 10.0
    kwh: NonNegativeFloat = 0.12
    w_idle: NonNegativeFloat = 30.0
    w_busy: NonNegativeFloat = 575.0
    min_bill_s: NonNegativeFloat = 60.0
    clock: str | None = None


class Settings(Strict):
    """Everything under `args`: what runs, the tables that decide who answers, and what the hardware costs."""

    engines: dict[str, EngineEntry]
    routing: RoutingTables
    templates: Templates
    ingress: IngressEntry = IngressEntry()
    access: AccessRules = AccessRules()
    limits: Limits = Limits()
    store: StoreEntry = Field(default_factory=StoreEntry)
    cache: CacheRules = CacheRules()
    nodes: dict[str, Node] = {}
    cards: dict[str, Cards] = {}
    fleet: FleetEntry | None = None

    def cores(self) -> float:
        """What all replicas take when there are most of them."""
        return sum(entry.resources.cpu * entry.most_replicas for entry in self.engines.values())

    def versions(self) -> Versions:
        """Every version of every model; the first that the profile names is the active one until it is switched."""
        return by_version(
            Model(
                id=name,
                engine=engine_name,
                kinds=engine.engine_class().kinds,
                node_class=engine.node_class,
                pools=engine.pools().union(*(self.engines[o].pools() for o in self._called_by(engine_name))),
                region=engine.region,
                **entry.model_dump(exclude={"price"}),
            )
            for engine_name, engine in self.engines.items()
            for name, entry in engine.models.items()
        )

    def tariff(self) -> Tariff:
        """The price of every version of every model; an engine that works for another one costs as its first model."""
        prices: dict[tuple[str, str], Price] = {}
        engines: dict[str, Price] = {}
        for name, engine in self.engines.items():
            for model, entry in engine.models.items():
                price = Price.of(entry.price, self._slot_hour(engine), entry.context_tokens)
                prices[model, entry.version] = price
                engines.setdefault(name, price)
        return Tariff(prices, engines, {name: self._called_by(name) for name in self.engines})

    def _called_by(self, name: str) -> frozenset[str]:
        """The engines that an engine needs, and those that these need."""
        needs = self.engines[name].needs.values()
        return frozenset(needs).union(*(self._called_by(other) for other in needs if other in self.engines))

    def _slot_hour(self, engine: EngineEntry) -> int:
        node = self.nodes.get(engine.node_class, Node())
        return node.slot(engine.resources.gpu, engine.resources.cpu, engine.slots)

    def router(self) -> Router:
        versions = self.versions()
        first = {name: next(iter(family.values())) for name, family in versions.items()}
        return Router(self.routing, first, self.templates, versions, self.tariff())


class Application(Strict):
    name: Literal["megacity"] = "megacity"
    route_prefix: None
    import_path: Literal["serve_app.app:build"] = "serve_app.app:build"
    runtime_env: dict[str, Any] = {}
    deployments: list[dict[str, Any]] = []
    autoscaling_policy: dict[str, Any] | None = None
    external_scaler_enabled: bool = False
    logging_config: dict[str, Any] | None = None
    args: Settings


class ServeFile(Strict):
    """The keys of a Serve config file, as `serve deploy` takes it.

    Serve's own proxies stay off and so do their options: the ingress replicas listen themselves (`args.ingress`).
    """

    proxy_location: Literal["Disabled"]
    controller_options: dict[str, Any] | None = None
    logging_config: dict[str, Any] | None = None
    tracing_config: dict[str, Any] | None = None
    target_capacity: float | None = None
    applications: list[Application] = Field(min_length=1, max_length=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile that was found good. `document` is what Serve is given."""

    path: Path
    document: dict[str, Any]
    serve: ServeFile

    @property
    def settings(self) -> Settings:
        return self.serve.applications[0].args


def load_profile(name_or_path: str, changes: dict[str, Any] | None = None) -> Profile:
    """Read and check a profile by name (`embedded`) or path; `changes` are laid over its `args`.

    Raises `ConfigError` with the first problem in one line.
    """
    path = _find(name_or_path)
    document = _read(path)
    _refuse_proxy_options(document, path.name)
    if changes and isinstance(document.get("applications"), list):
        for application in document["applications"]:
            application["args"] = _merged(application.get("args") or {}, changes)
    serve = _validated(ServeFile, document, path.name)
    _check(serve.applications[0].args, path.name)
    _check_fleet(serve.applications[0], path.name)
    return Profile(path, document, serve)


def load_class(name: str) -> type[Engine]:
    """The engine class that `module:Class` names; raises `ValueError` with the remedy."""
    module_name, _, class_name = name.partition(":")
    if not class_name:
        raise ValueError(f"'{name}' names no class; write it as module:Class, for example deployments.llm:CTranslate2")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module '{error.name}'; check the name, or install what it needs") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Engine)):
        engines = [
            n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Engine) and v is not Engine
        ]
        raise ValueError(f"{module_name} has no engine '{class_name}'; it has: {', '.join(engines) or 'none'}")
    return found


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ConfigError(f"{name_or_path}: no such file; give a profile's name or the path of a Serve config file")
    named = PROFILES / f"{name_or_path}.yaml"
    if named.is_file():
        return named
    known = sorted(p.stem for p in PROFILES.glob("*.yaml"))
    raise ConfigError(f"no profile '{name_or_path}'; profiles: {', '.join(known)}{_did_you_mean(name_or_path, known)}")


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error rather than a silent replacement."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key '{twice}' is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path.name}{where}: {error.problem}; mend the YAML") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name}: not a mapping; a profile is a Serve config file with `applications:`")
    return document


def _refuse_proxy_options(document: dict[str, Any], where: str) -> None:
    """Serve's own keys for addresses would be taken and have no effect."""
    for key in ("http_options", "grpc_options"):
        if key in document:
            raise ConfigError(
                f"{where}: {key}: the ingress listens itself; set args.ingress.http and args.ingress.grpc"
            )


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(merged.get(key), dict | None)
        merged[key] = _merged(merged.get(key) or {}, value) if inner else value
    return merged


def _validated(model: type[ServeFile], document: dict[str, Any], where: str) -> ServeFile:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_one_line(error, model, where)) from error


def _check(settings: Settings, where: str) -> None:
    """What only shows across entries: engine classes and their options, models named twice, tables and templates."""
    seen: dict[tuple[str, str], str] = {}
    for name, entry in settings.engines.items():
        key = f"{where}: engines.{name}"
        _check_engine(entry, key)
        for model, described in entry.models.items():
            other = seen.setdefault((model, described.version), name)
            if other != name:
                raise ConfigError(
                    f"{key}.models.{model}: engine '{other}' serves version {described.version} already; "
                    "give one of them another version or name"
                )
    for name, entry in settings.engines.items():
        _check_needs(entry, settings, f"{where}: engines.{name}")
    try:
        settings.router()
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    exposed = settings.ingress.exposed()
    if exposed and settings.access.anonymous:
        raise ConfigError(
            f"{where}: access.anonymous: callers without a key are for loopback only, and {exposed} is not; "
            "set access.anonymous to false and make keys with `megacity keys create`"
        )


FLEET_POLICY = "serve_app.cluster.autoscaling:Fleet"


def _check_fleet(application: Application, where: str) -> None:
    """Serve calls a policy for a whole application only if the file says so, and the policy needs `args.fleet`."""
    fleet = application.args.fleet
    named = (application.autoscaling_policy or {}).get("policy_function")
    if (fleet is None) != (named != FLEET_POLICY):
        missing = "args.fleet" if fleet is None else f"autoscaling_policy: {{policy_function: {FLEET_POLICY}}}"
        raise ConfigError(f"{where}: the fleet policy needs {missing}, too; give both or none")
    for name in fleet.engines if fleet else ():
        entry = application.args.engines.get(name)
        if entry is None or not isinstance(entry.replicas, Replicas):
            raise ConfigError(
                f"{where}: fleet.engines.{name}: there is no engine of that name with replicas: {{min, max}}"
            )


def _check_engine(entry: EngineEntry, key: str) -> None:
    try:
        cls = entry.engine_class()
    except ValueError as error:
        raise ConfigError(f"{key}.engine: {error}") from error
    try:
        entry.engine_options()
    except ValidationError as error:
        raise ConfigError(_one_line(error, cls.Options, f"{key}.options")) from error


def _check_needs(entry: EngineEntry, settings: Settings, key: str) -> None:
    cls = entry.engine_class()
    unknown = entry.needs.keys() - cls.needs.keys() - cls.may_need.keys()
    if unknown:
        roles = ", ".join([*cls.needs, *cls.may_need]) or "none"
        raise ConfigError(f"{key}.needs.{min(unknown)}: this engine calls no such engine; it calls: {roles}")
    for role, kind in {**cls.needs, **cls.may_need}.items():
        if role in cls.needs or role in entry.needs:
            _check_need(entry.needs.get(role), kind, settings, f"{key}.needs.{role}")


def _check_need(name: str | None, kind: Kind, settings: Settings, key: str) -> None:
    able = [other for other, entry in settings.engines.items() if kind in entry.engine_class().kinds]
    if name not in able:
        raise ConfigError(f"{key}: name an engine that answers '{kind}'; there are: {', '.join(able) or 'none'}")


def _one_line(error: ValidationError, root: type, where: str) -> str:
    """The first problem of a validation, as `file: key: what is wrong; remedy`."""
    first = error.errors(include_url=False, include_input=False)[0]
    *parents, last = first["loc"] or ("",)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    separator = ": " if where.endswith((".yaml", ".yml")) else "."
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = sorted(_fields(root, parents))
        remedy = _did_you_mean(str(last), known) or f"; known keys: {', '.join(known)}"
        return f"{where}{separator}{key}: unknown key{remedy}{more}"
    return f"{where}{separator}{key}: {first['msg'][:1].lower()}{first['msg'][1:]}{more}"


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _fields(root: Any, path: list[int | str]) -> list[str]:
    """The keys that may stand at `path` below the type `root`; empty where there is no such list."""
    for part in path:
        root = _child(root, part)
    return list(_hints(root))


def _child(kind: Any, part: int | str) -> Any:
    hints = _hints(kind)
    if part in hints:
        return _unwrapped(hints[str(part)])
    arguments = typing.get_args(kind)
    return _unwrapped(arguments[-1]) if arguments and part != kind.__name__ else kind


def _hints(kind: Any) -> Mapping[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind)
    return {}


def _unwrapped(kind: Any) -> Any:
    """The one of a union's types that has fields, or the type itself."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return next((a for a in typing.get_args(kind) if _hints(a)), kind)
    return kind
