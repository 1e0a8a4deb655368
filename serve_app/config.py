"""What a profile can set: the engines, the doors, the fleet, and the tables that decide who answers."""

import importlib
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from serve_app.engine import Engine, EngineOptions
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
