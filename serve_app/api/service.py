"""What a door needs of the house: somewhere to send a job, someone to ask about routes, and how the engines are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from serve_app.api.access import Access
from serve_app.policies.limits import Limits
from serve_app.policies.pricing import Tariff
from serve_app.policies.routing import Health, Router
from serve_app.policies.versions import Switches
from serve_app.services.ledger import Ledger
from serve_app.services.objects import Objects
from serve_app.services.references import References
from serve_app.services.spool import Spool
from serve_app.services.versions import Registry
from serve_app.types import Handler


@dataclass(frozen=True, slots=True)
class Service:
    """`run` is the whole pipeline; `health` gives each engine's state at this moment; `access` knows who calls."""

    run: Handler
    router: Router
    health: Callable[[], Mapping[str, Health]]
    limits: Limits = field(default_factory=Limits)
    access: Access = field(kw_only=True)
    ledger: Ledger | None = None
    registry: Registry | None = None
    references: References | None = None
    switches: Callable[[], Switches] = dict
    tariff: Tariff = field(default_factory=Tariff)
    spool: Spool = field(default_factory=Spool)
    objects: Objects = field(default_factory=Objects)
