"""Which version of a model is in force, for callers with the scope `admin`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from serve_app import logs
from serve_app.api import answers, wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import Call, InCall, TheService, needs
from serve_app.api.docs import ERRORS
from serve_app.errors import Unavailable
from serve_app.services.versions import Registry, State

router = APIRouter(prefix="/api/v1/admin/models", tags=["Versions"], responses=ERRORS, dependencies=[needs("admin")])


async def registry_of(service: TheService) -> Registry:
    if service.registry is None:
        raise Unavailable("This service keeps no versions.")
    return service.registry


TheRegistry = Annotated[Registry, Depends(registry_of)]


@router.get("")
async def list_versions(registry: TheRegistry) -> answers.VersionList:
    """Every model with its versions: the active one, the canary and its share."""
    return answers.VersionList(data=[_card(state) for state in await registry.states()])


@router.post("/{model}/activate", openapi_extra=takes(wire.VersionRequest))
async def activate_version(
    model: str,
    body: Annotated[wire.VersionRequest, Depends(json_body(wire.VersionRequest))],
    registry: TheRegistry,
    call: InCall,
) -> answers.VersionCard:
    """Send every new request to this version, within two seconds on every replica. What runs is finished."""
    return _told("version_activated", await registry.activate(model, body.version), call)


@router.post("/{model}/canary", openapi_extra=takes(wire.CanaryRequest))
async def set_canary(
    model: str,
    body: Annotated[wire.CanaryRequest, Depends(json_body(wire.CanaryRequest))],
    registry: TheRegistry,
    call: InCall,
) -> answers.VersionCard:
    """Send a share of the callers to this version, each always to the same; a share of 0 ends the canary."""
    return _told("canary_set", await registry.canary(model, body.version, body.share), call)


@router.post("/{model}/rollback")
async def roll_back(model: str, registry: TheRegistry, call: InCall) -> answers.VersionCard:
    """End the canary, or without one return to the version that was active before the last switch."""
    return _told("version_rolled_back", await registry.rollback(model), call)


def _card(state: State) -> answers.VersionCard:
    return answers.VersionCard(
        id=state.model,
        versions=list(state.versions),
        active=state.active,
        canary=state.canary,
        share=state.share,
        previous=state.previous,
    )


def _told(event: str, state: State, call: Call) -> answers.VersionCard:
    logs.event(event, model=state.model, version=state.active, by=call.caller.key or call.caller.tenant)
    return _card(state)
