"""Engines as Serve deployments: how each is scaled and placed, and how it is at this moment."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_app import logs
from serve_app.config import EngineEntry, FleetEntry, Replicas
from serve_app.host import Host
from serve_app.policies.routing import Health

HEALTH_PERIOD_S = 1.0
FRESH = {"metrics_interval_s": 1.0, "look_back_period_s": 2.0}
"""Serve's own 10 and 30 seconds tell late of requests that wait for a sleeper, and long of those that were answered."""
DOORSTEP = 256
"""Requests that a replica takes beyond its slots and its room, and a handle beyond that while no replica is awake.

Serve's own queue is first come, first served. So everything has to get as far as the room, where a premium request may
take the place of a lower one and the others are refused at once; what is on its way in or out needs space meanwhile.
"""


def hosts(engines: Mapping[str, EngineEntry], fleet: FleetEntry | None = None) -> dict[str, DeploymentHandle]:
    """One deployment per engine, named after it, bound to the engines that it needs."""
    bound: dict[str, Any] = {}
    for name in _needed_first(engines):
        entry = engines[name]
        needs = {role: bound[engine] for role, engine in entry.needs.items()}
        bound[name] = _host(name, entry, fleet).bind(name, entry.model_dump(mode="json"), needs)
    return bound


async def watch(health: dict[str, Health]) -> None:
    """Keep `health` true to what Serve says of each engine's deployment, for ever; the last view while it is silent."""
    ours = serve.get_replica_context().app_name
    while True:
        try:
            deployments = (await asyncio.to_thread(_details))["applications"][ours]["deployments"]
        except (KeyError, RuntimeError, OSError, RayError, RayServeException) as error:  # the controller is restarting
            logs.fault("status_unavailable", error)
        else:
            for name in health:
                health[name] = _state(deployments.get(name))
        await asyncio.sleep(HEALTH_PERIOD_S)


def _host(name: str, entry: EngineEntry, fleet: FleetEntry | None) -> serve.Deployment:
    """The Serve deployment of one engine, with its own scaling, placement and room for waiters."""
    return serve.deployment(
        Host,
        name=name,
        ray_actor_options={
            "num_cpus": entry.resources.cpu,
            "num_gpus": entry.resources.gpu,
            **placed(entry.placement),
        },
        max_ongoing_requests=entry.slots + entry.waiting + DOORSTEP,
        max_queued_requests=entry.slots + entry.waiting + DOORSTEP,
        graceful_shutdown_timeout_s=entry.drain_s,
        **_scaling(name, entry, fleet),
    )


def placed(placement: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Ray's options for nodes with these labels, the first that there are."""
    if not placement:
        return {}
    first, *rest = placement
    fallback = {"fallback_strategy": [{"label_selector": labels} for labels in rest]} if rest else {}
    return {"label_selector": first, **fallback}


def _scaling(name: str, entry: EngineEntry, fleet: FleetEntry | None) -> dict[str, Any]:
    if not isinstance(entry.replicas, Replicas):
        return {"num_replicas": entry.replicas}
    bounds = entry.replicas
    return {
        "autoscaling_config": {
            "min_replicas": bounds.min,
            "max_replicas": bounds.max,
            "initial_replicas": bounds.min,
            "target_ongoing_requests": bounds.target_ongoing,
            **(_governed(name, entry, fleet) if fleet and name in fleet.engines else {}),
        }
    }


def _governed(name: str, entry: EngineEntry, fleet: FleetEntry) -> dict[str, Any]:
    """What the fleet policy has to know of an engine travels with it, and Serve's own delays are off.

    The application's policy decides; a deployment's own one stays Serve's default, which takes none of these.
    """
    about = {
        "fleet": fleet.model_dump(mode="json", exclude={"engines"}),
        "engine": fleet.engines[name].model_dump(mode="json"),
        "slots": entry.slots,
    }
    return {
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "downscale_to_zero_delay_s": 0,
        **FRESH,
        "policy": {"policy_kwargs": about},
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


def _details() -> dict[str, Any]:
    """What `serve.status()` builds its models from, which takes 50 ms of CPU: too long beside requests."""
    details: dict[str, Any] = _get_global_client().get_serve_details()
    return details


def _state(deployment: dict[str, Any] | None) -> Health:
    """An engine whose replicas were lost is being replaced; broken is one that cannot be started."""
    if deployment is None:
        return "waking"
    if any(replica["state"] == "RUNNING" for replica in deployment["replicas"]):
        return "ready"
    status = deployment["status"]
    failed = status == "DEPLOY_FAILED" or (
        status == "UNHEALTHY" and deployment["status_trigger"] != "HEALTH_CHECK_FAILED"
    )
    return "broken" if failed else "waking"
