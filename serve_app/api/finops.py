"""What was spent, for callers with the scope `finops`."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from serve_app.api import answers
from serve_app.api.calls import InCall, TheService, needs
from serve_app.api.docs import ERRORS
from serve_app.errors import Unavailable
from serve_app.policies.pricing import NANO
from serve_app.services.ledger import Costs, Group, Ledger

router = APIRouter(prefix="/api/v1/finops", tags=["Costs"], responses=ERRORS, dependencies=[needs("finops")])


async def ledger_of(service: TheService) -> Ledger:
    if service.ledger is None:
        raise Unavailable("This service keeps no ledger.")
    return service.ledger


@router.get("/costs", response_model_exclude_unset=True)
async def costs(
    ledger: Annotated[Ledger, Depends(ledger_of)],
    call: InCall,
    group_by: Group = "model",
    since: Annotated[datetime | None, Query(alias="from", description="ISO 8601; UTC if it names no zone.")] = None,
    until: Annotated[datetime | None, Query(alias="to", description="Up to this moment, and not with it.")] = None,
    tenant: Annotated[str | None, Query(description="One tenant only. Keys without `admin` see their own.")] = None,
) -> answers.CostReport:
    """What requests have used and cost, the dearest group first."""
    seen = tenant if "admin" in call.caller.scopes else call.caller.tenant
    return await report(ledger, group_by, since, until, seen)


async def report(
    ledger: Ledger, group_by: Group, since: datetime | None, until: datetime | None, tenant: str | None
) -> answers.CostReport:
    found = await ledger.costs(group_by, _ms(since) or 0, _ms(until), tenant)
    total = sum(row.cost_nano for row in found)
    return answers.CostReport(group_by=group_by, data=[_row(group_by, row) for row in found], total_usd=total / NANO)


def _row(group_by: Group, costs: Costs) -> answers.CostRow:
    return answers.CostRow(
        **{group_by: costs.group},
        requests=costs.requests,
        prompt_tokens=costs.prompt_tokens,
        completion_tokens=costs.completion_tokens,
        cached_tokens=costs.cached_tokens,
        engine_s=costs.engine_us / 1e6,
        audio_s=costs.audio_ms / 1e3,
        frames=costs.frames,
        characters=costs.characters,
        cost_usd=costs.cost_nano / NANO,
        saved_usd=costs.saved_nano / NANO,
    )


def _ms(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(known.timestamp() * 1000)
