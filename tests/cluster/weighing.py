"""An engine that says what it was given and where."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path

from serve_app.engine import Engine
from serve_app.types import Artifact, Done, Event, Job, Kind, Pose


class Scale(Engine):
    kinds = frozenset({Kind.POSE})

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        assert isinstance(job.payload, Pose)
        file = job.payload.media
        data = await asyncio.to_thread(Path(file.path).read_bytes)
        found = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "media_type": file.media_type,
            "path": file.path,
        }
        yield Artifact("found", "application/json", json.dumps(found).encode())
        yield Done()
