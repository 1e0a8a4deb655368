"""What Ray Serve costs as its documentation shows it: its own proxy, an ingress deployment, and one behind it.

`python -m benchmarks.bare_serve PORT` serves on loopback and stops when its input ends. The answers
are made in the inner deployment, one yield per token, and passed on as they come.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from typing import Any

import ray
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.upstream import SSE, TOKENS, WHOLE_BODY

app = FastAPI()


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Model:
    async def whole(self, delay_s: float) -> bytes:
        if delay_s:
            await asyncio.sleep(delay_s * (TOKENS - 1))
        return WHOLE_BODY

    async def stream(self, delay_s: float) -> AsyncGenerator[bytes]:
        for at, event in enumerate(SSE):
            if delay_s and 0 < at < TOKENS:
                await asyncio.sleep(delay_s)
            yield event


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Front:
    def __init__(self, model: DeploymentHandle) -> None:
        self.model = model

    @app.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Any:
        asked = await request.json()
        delay_s = 0.005 if asked["model"] == "fake-5ms" else 0.0
        if asked.get("stream"):
            events = self.model.options(stream=True).stream.remote(delay_s)
            return StreamingResponse(events, media_type="text/event-stream")
        return StreamingResponse(iter([await self.model.whole.remote(delay_s)]), media_type="application/json")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        ray.init(
            num_cpus=4,
            object_store_memory=150_000_000,
            dashboard_host="127.0.0.1",
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        quiet = {"enable_access_log": False}
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
        serve.run(Front.options(logging_config=quiet).bind(Model.options(logging_config=quiet).bind()))  # type: ignore[attr-defined]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdin.read()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
