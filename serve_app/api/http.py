"""The HTTP door: every route, and what each request passes on its way to it."""

import time
from collections.abc import Sequence
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from serve_app.api import (
    admin,
    coaching,
    dance,
    docs,
    embeddings,
    envelope,
    finops,
    health,
    models,
    objects,
    openai,
    platform,
    rag,
    speech,
    transcriptions,
    voice,
)
from serve_app.api.middleware import Admit, Faults, HeadAsGet, Identify, Straight
from serve_app.api.service import Service

ROUTERS = [
    openai.router,
    embeddings.router,
    rag.router,
    speech.router,
    transcriptions.router,
    voice.router,
    dance.router,
    platform.router,
    coaching.router,
    objects.router,
    finops.router,
    admin.router,
    models.router,
    health.router,
    docs.router,
]


def build(service: Service, extra_routes: Sequence[BaseRoute] = ()) -> FastAPI:
    """The ASGI application of a service. `extra_routes` are mounted beside its own."""
    passed = [
        Middleware(Identify),
        Middleware(Faults),
        Middleware(Admit, access=service.access),
        Middleware(HeadAsGet),
        Middleware(Straight, routes={("POST", "/v1/chat/completions"): openai.chat}),
    ]
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, middleware=passed)
    app.state.service = service
    app.state.started = int(time.time())
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.extend([docs.assets(), *extra_routes])
    app.openapi = partial(docs.describe, app)  # type: ignore[method-assign]
    envelope.install(app)
    return app
