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
from serve_app.config import Settings
from serve_app.host import Batch, carrier, pile_up, waker
from serve_app.pipeline import compose
from serve_app.policies.routing import Health
from serve_app.policies.versions import Switch
from serve_app.services.home import home
from serve_app.services.keys import Keys, server_secret
from serve_app.services.kv import open_kv
from serve_app.services.ledger import Ledger
from serve_app.services.rates import Rates
from serve_app.services.store import Store
from serve_app.services.versions import Registry, follow
from serve_app.stages.cache import cache
from serve_app.stages.dispatch import dispatch
from serve_app.stages.guard import guard
from serve_app.stages.meter import meter
from serve_app.stages.observe import observe
from serve_app.stages.plan import plan
from serve_app.types import Candidate, Decision, Job


def build(args: Settings) -> serve.Application:
    """One deployment per engine, named after it, and the ingress that knows them all."""
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=args.ingress.replicas,
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=args.ingress.drain_s + 10,
    )
    return ingress.bind(args.model_dump(mode="json"), fleet.hosts(args.engines))


class Ingress:
    """Every door, the stages between them and the engines, in one process."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: dict[str, Any], hosts: Mapping[str, DeploymentHandle]
    ) -> None:
        logs.setup()
        config = Settings.model_validate(settings)
        self.health: dict[str, Health] = dict.fromkeys(config.engines, "waking")
        router = config.router()
        engines = {name: carrier(name, handle) for name, handle in hosts.items()}
        self.store = Store(config.store.url, logs.fault)
        secret = server_secret(home())
        keys, rates = Keys(self.store, secret), Rates(config.ingress.replicas)
        await exposure.check(config, keys)
        self.ledger = Ledger(self.store, config.store.required)
        self.ledger.open()
        self.registry = Registry(self.store, config.versions())
        self.switches: dict[str, Switch] = {}
        self.router = router
        self.kv = open_kv(config.cache.redis, config.cache.max_mb, logs.fault)
        answers = cache(self.kv, config.cache, secret, config.routing.tasks)
        stages = [observe, guard(rates), plan(self.candidates), meter(self.ledger, config.tariff()), answers]
        handler = compose(stages, dispatch(engines, lambda: self.health, waker(hosts)))
        access = Access(config.access, keys, rates, router.hosts())
        self.service = Service(
            handler,
            router,
            lambda: self.health,
            config.limits,
            access=access,
            ledger=self.ledger,
            registry=self.registry,
            switches=lambda: self.switches,
        )
        self.watchers = [
            asyncio.create_task(fleet.watch(self.health)),
            asyncio.create_task(follow(self.registry, self.switches)),
        ]
        self.drain_s = config.ingress.drain_s
        http, grpc = config.ingress.http, config.ingress.grpc
        self.doors = Doors(self.service, (http.host, http.port), (grpc.host, grpc.port))
        await self.doors.open()

    async def run(self, job: Job) -> AsyncGenerator[Batch]:
        """The door for Python callers on a handle: the whole pipeline, in batches of events."""
        async for batch in pile_up(self.service.run(job)):
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
            await self.doors.close(self.drain_s)
            await self.ledger.close()
            await self.store.close()
            await self.kv.close()
