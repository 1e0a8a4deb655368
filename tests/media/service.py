"""A real service with a route that takes files, in a process of its own: `python -m tests.media.service PORT`."""

import os
import sys
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI
from pydantic import Field

from serve_app.api import http
from serve_app.api.uploads import Form, multipart, takes_form
from serve_app.api.wire import Wire
from tests.api.stub import Stub

router = APIRouter()


class Wishes(Wire):
    count: int = 1
    sure: bool = False
    words: list[str] = Field(default_factory=list)


@router.post("/upload", openapi_extra=takes_form(Wishes, "file", optional=["other"]))
async def upload(form: Annotated[Form, Depends(multipart("file", optional=["other"]))]) -> dict[str, Any]:
    """What came, and whether it lies on the disk for its owner only."""
    return {
        "fields": form.fields,
        "wishes": form.read(Wishes).model_dump(),
        "names": form.names,
        "files": {
            name: {"size": media.size, "sha256": media.sha256, "type": media.media_type, "mode": _mode(media.path)}
            for name, media in form.files.items()
        },
        "paths": [media.path for media in form.files.values()],
    }


def build(stub: Stub) -> FastAPI:
    app = http.build(stub.service())
    app.include_router(router)
    return app


def _mode(path: str) -> str:
    return oct(os.stat(path).st_mode & 0o777)


if __name__ == "__main__":
    uvicorn.run(build(Stub()), port=int(sys.argv[1]), log_config=None, lifespan="off")
