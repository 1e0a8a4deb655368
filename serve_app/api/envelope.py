"""Every error leaves in the OpenAI envelope, whoever raised it."""

from collections.abc import Mapping

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve_app import errors, logs
from serve_app.api import validation

BY_STATUS: Mapping[int, tuple[type[errors.MegaCityError], str]] = {
    404: (errors.NotFound, "There is nothing at this path. GET /openapi.json lists the routes."),
    405: (errors.MethodNotAllowed, "This path does not take this method. The Allow header names those it takes."),
    413: (errors.TooLarge, "The request is too large."),
    415: (errors.WrongMedia, "This media type is not understood here."),
}


def install(app: FastAPI) -> None:
    app.add_exception_handler(errors.MegaCityError, _known)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(RequestValidationError, _invalid)


def response(error: errors.MegaCityError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that failed before its first byte."""
    extra = dict(headers or {})
    if error.retry_after_s is not None:
        extra["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        extra["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(error.envelope()), error.status, extra, "application/json")


def presentable(error: BaseException, request_id: str) -> errors.MegaCityError:
    """`error` itself if it was meant to be seen; else a plain apology, and a log line of its type and stack.

    The text of an unexpected error is neither shown nor logged: it may quote a prompt.
    """
    if isinstance(error, errors.MegaCityError):
        return error
    logs.fault("unexpected_error", error, request_id=request_id)
    return errors.MegaCityError(f"Something broke on our side. Please try again, or report request {request_id}.")


async def _known(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.MegaCityError)
    return response(error)


async def _of_the_framework(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind, message = BY_STATUS.get(error.status_code, (errors.BadRequest, "The request could not be understood."))
    return response(kind(message), error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """A path or query parameter of the wrong type; bodies are checked in `body.py`."""
    assert isinstance(error, RequestValidationError)
    given = {**request.path_params, **request.query_params}
    return response(validation.bad_request([{**e, "loc": e["loc"][1:]} for e in error.errors()], given))
