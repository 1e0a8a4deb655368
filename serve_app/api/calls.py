"""What a request says beside its body: who it is, who asks, and through which host."""

import re
import secrets
import uuid
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from serve_app.api.service import Service
from serve_app.policies import access
from serve_app.types import Caller

WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
NO_STORE = re.compile(r"\bno-(store|cache)\b", re.IGNORECASE)
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")  # W3C, level 1


@dataclass(frozen=True, slots=True)
class Call:
    """`authorization` are all headers of that name. Until `Access` has looked at them, `caller` may do nothing."""

    id: str
    traceparent: str
    host: str | None
    no_store: bool = False
    authorization: tuple[str, ...] = field(default=(), repr=False)
    caller: Caller = access.NOBODY

    def caller_for(self, user: str | None) -> Caller:
        """The caller, on behalf of one of its own users."""
        return replace(self.caller, user=user) if user else self.caller


def read(scope: Scope) -> Call:
    """The call that an HTTP scope describes; an id that is missing or malformed is replaced."""
    headers = Headers(scope=scope)
    request_id, traceparent = headers.get("x-request-id", ""), headers.get("traceparent", "")
    return Call(
        id=request_id if WELL_FORMED_ID.fullmatch(request_id) else f"req_{uuid.uuid4().hex}",
        traceparent=traceparent if TRACEPARENT.fullmatch(traceparent) else _new_traceparent(),
        host=headers.get("host", "").lower() or None,
        no_store=any(NO_STORE.search(value) for value in headers.getlist("cache-control")),
        authorization=tuple(headers.getlist("authorization")),
    )


def call_of(request: Request) -> Call:
    """The call of a request that came through `middleware.Identify`."""
    call = request.scope["state"]["call"]
    assert isinstance(call, Call)
    return call


def needs(scope: str) -> Any:
    """A dependency for routes that only callers with this scope may use; raises `Forbidden` for others."""

    async def check(request: Request) -> None:
        access.require(call_of(request).caller, scope)

    return Depends(check)


def _new_traceparent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def service_of(request: Request) -> Service:
    """The service that `http.build` was given."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def _call(request: Request) -> Call:
    return call_of(request)


async def _service(request: Request) -> Service:
    return service_of(request)


# Dependencies are coroutines throughout: a plain function would be given to a thread, on every request.
InCall = Annotated[Call, Depends(_call)]
TheService = Annotated[Service, Depends(_service)]
