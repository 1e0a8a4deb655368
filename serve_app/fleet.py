"""Engines as Serve deployments: how each is scaled and placed, and how it is at this moment."""

import asyncio
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app import logs
from serve_app.config import EngineEntry, Replicas
from serve_app.host import Host
from serve_app.policies.routing import Health

HEALTH_PERIOD_S = 1.0
DOORSTEP = 256
"""Requests that a replica takes beyond its slots and its room, and a handle beyond that while no replica is awake.

Serve's own queue is first come, first served. So everything has to get as far as the room, where a premium request may
take the place of a lower one and the others are refused at once; what is on its way in or out needs space meanwhile.
"""


def hosts(engines: Mapping[str, EngineEntry]) -> dict[str, DeploymentHandle]:
    """One deployment per engine, named after it, bound to the engines that it needs."""
    bound: dict[str, Any] = {}
    for name in _needed_first(engines):
        entry = engines[name]
        needs = {role: bound[engine] for role, engine in entry.needs.items()}
        bound[name] = _host(name, entry).bind(name, entry.model_dump(mode="json"), needs)
    return bound


async def watch(health: dict[str, Health]) -> None:
    """Keep `health` true to what Serve says of each engine's deployment, for ever."""
    while True:
        try:
            application = (await asyncio.to_thread(serve.status)).applications[serve.get_replica_context().app_name]
        except (KeyError, RuntimeError, OSError) as error:  # the controller is restarting; keep the last view
            logs.fault("status_unavailable", error)
        else:
            for name in health:
                health[name] = _state(application.deployments.get(name))
        await asyncio.sleep(HEALTH_PERIOD_S)


def _host(name: str, entry: EngineEntry) -> serve.Deployment:
    """The Serve deployment of one engine, with its own scaling, placement and room for waiters."""
    return serve.deployment(
        Host,
        name=name,
        ray_actor_options=_actor_options(entry),
        max_ongoing_requests=entry.slots + entry.waiting + DOORSTEP,
        max_queued_requests=entry.slots + entry.waiting + DOORSTEP,
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


def _needed_first(engines: Mapping[str, EngineEntry]) -> list[str]:
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


def _state(deployment: Any) -> Health:
    if deployment is None:
        return "waking"
    if deployment.replica_states.get("RUNNING", 0):
        return "ready"
    return "broken" if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED") else "waking"
