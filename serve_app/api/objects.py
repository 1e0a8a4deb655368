"""Results that were stored, for their owner, or for whoever was given their URL."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import FileResponse, Response

from serve_app.api.calls import InCall, TheService
from serve_app.api.docs import ERRORS
from serve_app.errors import NotFound
from serve_app.services.objects import PATH

SAFE = {  # what is stored is looked at, never run
    "cache-control": "private, max-age=3600",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
}

router = APIRouter(prefix=PATH.rstrip("/"), tags=["Platform"], responses=ERRORS)


@router.get("/{key}", response_class=Response)
async def get_object(
    key: str,
    call: InCall,
    service: TheService,
    expires: Annotated[int, Query(ge=0, le=2**40)] = 0,
    signature: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """A result's file: for the tenant that it was made for, or with the `expires` and `signature` of its URL."""
    tenant = call.caller.tenant or None
    found = await service.objects.find(key, tenant, expires, signature)
    if found is None:
        raise NotFound("There is no such object, or its URL has expired.")
    return FileResponse(found.path, media_type=found.media_type, headers=SAFE)
