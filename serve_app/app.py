"""The whole system on one page: what `serve run`, `serve deploy` and `megacity up` build from a profile."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app import logs
from serve_app.api.server import Doors
from serve_app.api.service import Service
from serve_app.config import EngineEntry, Replicas, Settings
from serve_app.host import Batch, Host, carrier, pile_up
from serve_app.pipeline import compose
from serve_app.policies.routing import Health
from serve_app.stages.dispatch import dispatch
from serve_app.stages.observe import observe
from serve_app.stages.plan import plan
from serve_app.types import Decision, Job

HEALTH_PERIOD_S = 1.0


def build(args: Settings) -> serve.Application:
    """One deployment per engine, named after it, and the ingress that knows them all."""
    hosts: dict[str, Any] = {}
    for name in _engines_first(args.engines):
        entry = args.engines[name]
        needs = {role: hosts[engine] for role, engine in entry.needs.items()}
        hosts[name] = _host(name, entry).bind(name, entry.model_dump(mode="json"), needs)
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=args.ingress.replicas,
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=args.ingress.drain_s + 10,
    )
    return ingress.bind(args.model_dump(mode="json"), hosts)


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
        stages = [observe, plan(router, lambda: self.health)]
        handler = compose(stages, dispatch(engines))
        self.service = Service(handler, router, lambda: self.health, config.limits)
        self.watch = asyncio.create_task(_watch(self.health))
        self.drain_s = config.ingress.drain_s
        http, grpc = config.ingress.http, config.ingress.grpc
        self.doors = Doors(self.service, (http.host, http.port), (grpc.host, grpc.port))
        await self.doors.open()

    async def run(self, job: Job) -> AsyncGenerator[Batch]:
        """The door for Python callers on a handle: the whole pipeline, in batches of events."""
        async for batch in pile_up(self.service.run(job)):
            yield batch

    async def decide(self, job: Job) -> Decision:
        return self.service.router.decide(job, self.health)[0].decision

    async def __del__(self) -> None:
        """Serve's word that this replica is to go: it has been taken out of service already."""
        if hasattr(self, "doors"):
            await self.doors.close(self.drain_s)


def _host(name: str, entry: EngineEntry) -> serve.Deployment:
    """The Serve deployment of one engine, with its own scaling, placement and room for waiters."""
    return serve.deployment(
        Host,
        name=name,
        ray_actor_options=_actor_options(entry),
        max_ongoing_requests=entry.slots + entry.waiting,
        graceful_shutdown_timeout_s=30,
        **_scaling(entry),
    )


def _actor_options(entry: EngineEntry) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": entry.resources.cpu, "num_gpus": entry.resources.gpu}
    if entry.placement:
        first, *rest = entry.placement
        options["label_selector"] = first
        if rest:
            options["fallback_strategy"] = [{"label_selector": labels} for labels in rest]
    return options


def _scaling(entry: EngineEntry) -> dict[str, Any]:
    if not isinstance(entry.replicas, Replicas):
        return {"num_replicas": entry.replicas}
    bounds = entry.replicas
    return {
        "autoscaling_config": {
            "min_replicas": bounds.min,
            "max_replicas": bounds.max,
            "initial_replicas": bounds.min,
            "target_ongoing_requests": bounds.target_ongoing,
        }
    }


def _engines_first(engines: Mapping[str, EngineEntry]) -> list[str]:
    """Engine names so that each comes after the ones it needs; raises `ValueError` on a circle."""
    ordered: list[str] = []

    def place(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"engines need each other in a circle: {' -> '.join((*above, name))}")
        if name not in ordered:
            for needed in engines[name].needs.values():
                place(needed, (*above, name))
            ordered.append(name)

    for name in engines:
        place(name, ())
    return ordered


async def _watch(health: dict[str, Health]) -> None:
    """Keep `health` true to what Serve says of each engine's deployment."""
    while True:
        try:
            application = (await asyncio.to_thread(serve.status)).applications[serve.get_replica_context().app_name]
        except (KeyError, RuntimeError, OSError) as error:  # the controller is restarting; keep the last view
            logs.fault("status_unavailable", error)
        else:
            for name in health:
                health[name] = _state(application.deployments.get(name))
        await asyncio.sleep(HEALTH_PERIOD_S)


def _state(deployment: Any) -> Health:
    if deployment is None:
        return "waking"
    if deployment.replica_states.get("RUNNING", 0):
        return "ready"
    return "broken" if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED") else "waking"
