"""What every request and every answer passes, as plain ASGI."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import logs
from serve_app.api import calls, envelope
from serve_app.api.access import Access
from serve_app.errors import MegaCityError
from serve_app.services import objects

Route = Callable[[Request], Awaitable[Response]]


class Identify:
    """Gives every request an id and a trace, and says them in every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = calls.read(scope)
        scope.setdefault("state", {})["call"] = call
        logs.bind(door="http", request_id=call.id, trace_id=logs.trace_id(call.traceparent))

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = call.id
                headers["traceparent"] = call.traceparent
            await send(message)

        await self.app(scope, receive, named)


class Admit:
    """Finds out who calls before anything else is done, and says in every answer how much that caller has left.

    Only the paths of `OPEN` are for everybody, and stored results for whoever has a signed URL. What a known caller
    may do is decided by the route that matches (`calls.needs`) and by the guard stage, so that no spelling of a path
    gets around it.
    """

    OPEN = frozenset({"/", "/healthz", "/readyz", "/docs", "/docs/start.js", "/openapi.json"})
    ASSETS = "/docs/assets/"

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.access.refuse_strangers(Headers(scope=scope))
        if scope["path"] in self.OPEN or scope["path"].startswith(self.ASSETS):
            await self.app(scope, receive, send)
            return
        call = scope["state"]["call"]
        if scope["path"].startswith(objects.PATH) and not (call.authorization or self.access.rules.anonymous):
            await self.app(scope, receive, send)  # as nobody: the route asks for the signature
            return
        caller = await self.access.caller(call.authorization)
        scope["state"]["call"] = replace(call, caller=caller)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.access.rates.headers(caller))
            await send(message)

        await self.app(scope, receive, told)


class HeadAsGet:
    """A HEAD request is answered like a GET; the server leaves the body out (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class Straight:
    """Takes the busiest routes by method and path alone: FastAPI's way to them would be a tenth of a request's work.

    FastAPI has the same routes, and describes them; whatever is not found here goes that way.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[tuple[str, str], Route]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self.routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if not route:
            await self.app(scope, receive, send)
            return
        try:
            answer = await route(Request(scope, receive))
            await answer(scope, receive, send)
        except MegaCityError as error:  # here, so that it passes what every answer passes
            await envelope.response(error)(scope, receive, send)


class Faults:
    """Answers what nobody else has answered for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - the last line: the server would log the text of whatever it is
            problem = envelope.presentable(error, scope["state"]["call"].id)
            if not started:
                await envelope.response(problem)(scope, receive, send)
