"""The listening side of an ingress replica: HTTP and gRPC servers on ports that all replicas of a node share.

`SO_REUSEPORT` lets the kernel spread new connections over the replicas that are alive: a killed one costs only the
connections that it held, there is no proxy whose death is an outage, and none that makes errors of its own.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_app import metrics
from serve_app.api import grpc as grpc_door
from serve_app.api import http
from serve_app.api.calls import call_of
from serve_app.api.service import Service
from serve_app.errors import BadRequest
from serve_app.policies import access
from serve_app.policies.limits import RANGES

KEEP_ALIVE_S = 75  # longer than clients keep a connection that they don't use: who closes it should be who would use it


class Doors:
    """Both servers of one replica: `open` them, and `close` them when what is in flight has been answered."""

    def __init__(self, service: Service, http_address: tuple[str, int], grpc_address: tuple[str, int]) -> None:
        self.service = service
        self.http_address = http_address
        self.grpc_address = grpc_address

    async def open(self) -> None:
        """Listen; raises `OSError` if a port is taken by somebody else."""
        self.http = _HttpServer(http.build(self.service, [Route("/metrics", _metrics)]))
        self.http_task = asyncio.create_task(self.http.serve(sockets=[_shared_socket(*self.http_address)]))
        self.grpc = await grpc_door.listen(self.service, *self.grpc_address)

    async def close(self, grace_s: float) -> None:
        """Accept nothing new, wait up to `grace_s` seconds for what is in flight, then cut it."""
        self.http.config.timeout_graceful_shutdown = int(grace_s)
        self.http.should_exit = True
        await asyncio.gather(self.http_task, self.grpc.stop(grace_s))


class _HttpServer(uvicorn.Server):
    """Uvicorn as a guest in somebody else's event loop: signals belong to the host process."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=False,  # who calls is told by the key, never by a header that anybody can write
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 with a bound on what comes before a body, whose answer to what is not HTTP is in the envelope, too."""

    head_bytes = 0
    in_head = True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.head_bytes = self.head_bytes + len(data) if self.in_head else 0
        if self.head_bytes > RANGES["request_head"].most and not self.transport.is_closing():
            self.send_400_response(f"The headers are longer than {RANGES['request_head'].most:.0f} bytes.")

    def on_message_begin(self) -> None:
        self.in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        body = orjson.dumps(BadRequest(msg, code="malformed_http").envelope())
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def _metrics(request: Request) -> Response:
    access.require(call_of(request).caller, "metrics")
    body, content_type = metrics.exposition(request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


def _shared_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener
