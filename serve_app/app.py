"""The whole system on one page: what `serve run`, `serve deploy` and `megacity up` build from a profile."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app import exposure, fleet, logs
from serve_app.api.access import Access
from serve_app.api.server import Doors
from serve_app.api.service import Service
from serve_app.batches import in_batches
from serve_app.config import Settings
from serve_app.host import carrier, waker
from serve_app.lines import Batch
from serve_app.parcels import Parcel, unpacked
from serve_app.pipeline import compose
from serve_app.policies.routing import Health
from serve_app.policies.versions import Switch
from serve_app.services.home import home
from serve_app.services.keys import Keys, server_secret
from serve_app.services.kv import open_kv
from serve_app.services.ledger import Ledger
from serve_app.services.rates import Rates
from serve_app.services.references import References
from serve_app.services.store import Store
from serve_app.services.versions import Registry, follow
from serve_app.stages.cache import cache
from serve_app.stages.dispatch import dispatch
from serve_app.stages.guard import guard
from serve_app.stages.meter import meter
from serve_app.stages.observe import observe
from serve_app.stages.plan import plan
from serve_app.stages.structured import structured
from serve_app.types import Candidate, Decision, Handler, Job


def build(args: Settings) -> serve.Application:
    """One deployment per engine, named after it, and the ingress that knows them all."""
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=args.ingress.replicas,
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0, **fleet.placed(args.ingress.placement)},
        graceful_shutdown_timeout_s=args.ingress.drain_s + 10,
    )
    return ingress.bind(args.model_dump(mode="json"), fleet.hosts(args.engines, args.fleet))


class Ingress:
    """Every door, the stages between them and the engines, in one process."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: dict[str, Any], hosts: Mapping[str, DeploymentHandle]
    ) -> None:
        logs.setup()
        self.config = Settings.model_validate(settings)
        self.health: dict[str, Health] = dict.fromkeys(self.config.engines, "waking")
        self.switches: dict[str, Switch] = {}
        self.router = self.config.router()
        self._open_services()
        await exposure.check(self.config, self.keys)
        self.service = self._service(self._pipeline(hosts))
        self.watchers = [
            asyncio.create_task(fleet.watch(self.health)),
            asyncio.create_task(follow(self.registry, self.switches)),
        ]
        http, grpc = self.config.ingress.http, self.config.ingress.grpc
        self.doors = Doors(self.service, (http.host, http.port), (grpc.host, grpc.port))
        await self.doors.open()

    def _open_services(self) -> None:
        """What is kept beyond a request, each with this replica as its one owner in this process."""
        config = self.config
        self.secret = server_secret(home())
        self.store = Store(config.store.url, logs.fault)
        self.keys = Keys(self.store, self.secret)
        self.rates = Rates(config.ingress.replicas)
        self.registry = Registry(self.store, config.versions())
        self.kv = open_kv(config.cache.redis, config.cache.max_mb, logs.fault)
        self.ledger = Ledger(self.store, config.store.required)
        self.ledger.open()

    def _pipeline(self, hosts: Mapping[str, DeploymentHandle]) -> Handler:
        """The request path: what a job passes on its way in, first to last, and its events on their way out."""
        stages = [
            observe,
            guard(self.rates),
            plan(self.candidates),
            meter(self.ledger, self.config.tariff()),
            cache(self.kv, self.config.cache, self.secret, self.config.routing.tasks),
        ]
        engines = {name: structured(carrier(name, handle)) for name, handle in hosts.items()}
        return compose(stages, dispatch(engines, lambda: self.health, waker(hosts)))

    def _service(self, run: Handler) -> Service:
        return Service(
            run,
            self.router,
            lambda: self.health,
            self.config.limits,
            access=Access(self.config.access, self.keys, self.rates, self.router.hosts()),
            ledger=self.ledger,
            tariff=self.config.tariff(),
            registry=self.registry,
            references=References(self.store),
            switches=lambda: self.switches,
        )

    async def run(self, job: Job) -> AsyncGenerator[Batch]:
        """The door for Python callers on a handle: the whole pipeline, in batches of events."""
        async for batch in in_batches(self.service.run(job), pace_s=0):
            yield batch

    async def receive(self, parcel: Parcel) -> AsyncGenerator[Batch]:
        """As `run`, for a job whose files come along."""
        async with unpacked(parcel, self.service.spool) as job:
            async for batch in self.run(job):
                yield batch

    async def decide(self, job: Job) -> Decision:
        return self.candidates(job)[0].decision

    def candidates(self, job: Job) -> tuple[Candidate, ...]:
        """Who may answer, best first, as things are at this moment."""
        return self.router.decide(job, self.health, self.switches)

    async def models(self) -> list[str]:
        return self.service.router.names()

    async def __del__(self) -> None:
        """Serve's word that this replica is to go: it has been taken out of service already."""
        if hasattr(self, "doors"):
            await self.doors.close(self.config.ingress.drain_s)
            await self.ledger.close()
            await self.store.close()
            await self.kv.close()
            self.service.spool.close()
