"""Whether this process lives, and whether it can get anything answered."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from serve_app.api import answers
from serve_app.api.calls import TheService
from serve_app.api.docs import ERRORS
from serve_app.errors import Unavailable

router = APIRouter(tags=["Health"], responses=ERRORS)


@router.get("/healthz")
async def healthz() -> answers.Alive:
    """This process answers. No engine is asked."""
    return answers.Alive()


@router.get("/readyz", response_model=answers.Ready, responses={503: {"model": answers.NotReady}})
async def readyz(service: TheService) -> Response:
    """At least one engine can answer or wake up; one that is broken does not take the others down."""
    engines = dict(service.health())
    if any(state != "broken" for state in engines.values()):
        return JSONResponse({"status": "ready", "engines": engines})
    error = Unavailable("No engine can answer at the moment.")
    body = {"status": "unavailable", "engines": engines, **error.envelope()}
    return JSONResponse(body, error.status, {"retry-after": str(error.retry_after_s)})
