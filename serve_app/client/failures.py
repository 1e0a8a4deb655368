"""Errors of the service as they were raised there, made again from what came over HTTP."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from serve_app import errors
from serve_app.errors import EngineFailed, MegaCityError

_CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, MegaCityError)]
_BY_CODE = {c.code: c for c in reversed(_CLASSES)}  # of several with one code the first, which is the widest
_BY_STATUS = {c.status: c for c in reversed(_CLASSES)}


def refusal(reply: httpx.Response, body: bytes) -> MegaCityError:
    seconds = reply.headers.get("retry-after", "")
    try:
        found = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict):  # not our envelope: something else listens there, or stands in between
        found = {"message": f"The service answered {reply.status_code}."}
    return rebuilt(found, reply.status_code, int(seconds) if seconds.isdecimal() else None)


def rebuilt(found: Mapping[str, Any], status: int | None, retry_after_s: int | None = None) -> MegaCityError:
    """The error that an envelope was made from; of a stream there is no status."""
    code = found.get("code")
    kind = _BY_CODE.get(code, EngineFailed)
    if status not in (None, kind.status):
        kind = _BY_STATUS.get(status, MegaCityError)
    error = kind(str(found.get("message", "")), param=found.get("param"), code=code, retry_after_s=retry_after_s)
    error.status = status or kind.status
    return error


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """What is no answer of ours is an error of ours."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed("The service answered with something else than was asked for.") from error
