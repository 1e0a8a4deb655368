"""The platform's own routes."""

from typing import Annotated

from fastapi import APIRouter, Depends

from serve_app.api import answers, jobs, wire
from serve_app.api.body import json_body, takes
from serve_app.api.calls import InCall, TheService, needs
from serve_app.api.docs import ERRORS
from serve_app.policies.pricing import NANO

router = APIRouter(prefix="/api/v1/ai", tags=["Platform"], responses=ERRORS)


@router.post("/route", dependencies=[needs("chat")], openapi_extra=takes(wire.RouteRequest))
async def decide_route(
    body: Annotated[wire.RouteRequest, Depends(json_body(wire.RouteRequest))],
    call: InCall,
    service: TheService,
) -> answers.RouteDecision:
    """Where a chat request would go and why, without running it."""
    job = jobs.chat_job(body, call, service.limits)
    best = service.router.decide(job, service.health(), service.switches())[0]
    decision = best.decision
    return answers.RouteDecision(
        engine=decision.engine,
        model=decision.model,
        version=decision.version,
        node_class=decision.node_class,
        template=decision.template,
        priority=answers.PRIORITY_NAMES[decision.priority],
        reasons=list(decision.reasons),
        alternatives=list(decision.alternatives),
        zone=decision.zone,
        estimated_cost_usd=service.tariff.estimate(best, job) / NANO,
    )
