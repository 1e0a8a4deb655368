"""A cluster with a service on it, for the tests that are marked `cluster`, and a load that keeps account."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from serve_app.profile import load_profile
from tests.cluster.conftest import free_ports

PROFILE = Path(__file__).parent / "elastic.yaml"
START_S = 300


def pytest_configure(config: pytest.Config) -> None:
    """Ray looks for its token once, when it is first imported: before the tests are collected."""
    if config.option.markexpr == "cluster":
        import tests.elastic.harness  # noqa: F401


@dataclass
class Tally:
    """What became of every request, as its client saw it."""

    endings: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    @property
    def failed(self) -> int:
        return sum(count for ending, count in self.endings.items() if ending != "ok")


@dataclass
class Elastic:
    """The service on the cluster, and what tests do to it."""

    cluster: Any
    url: str

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, model: str, text: str = "go", timeout_s: float = 60) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 16}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=timeout_s)

    def at(self, hour: int, minute: int = 0) -> None:
        """Move the fleet's clock to this time of the day in Seoul."""
        now = datetime.now(ZoneInfo("Asia/Seoul"))
        offset = now.replace(hour=hour, minute=minute).timestamp() - now.timestamp()
        (Path(self.cluster.environment["MEGACITY_HOME"]) / "clock").write_text(str(offset))

    def replicas(self, engine: str, state: str = "RUNNING") -> list[str]:
        """The nodes on which an engine's replicas are, those alone that are alive."""
        from ray.serve.context import _get_global_client

        alive = self.cluster.all_alive()
        application = _get_global_client().get_serve_details()["applications"].get("megacity", {})
        deployment = application.get("deployments", {}).get(engine, {})
        found = [one["node_id"] for one in deployment.get("replicas", []) if one["state"] == state]
        return [node for node in found if node in alive]

    @contextmanager
    def load(self, workers: int = 4, model: str = "worker-1") -> Iterator[Tally]:
        """Requests one after another until the block ends; those that run then are waited for."""
        tally, over = Tally(), threading.Event()
        threads = [threading.Thread(target=self._keep_asking, args=(model, tally, over)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield tally
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _keep_asking(self, model: str, tally: Tally, over: threading.Event) -> None:
        while not over.is_set():
            started = time.monotonic()
            try:
                response = self.ask(model)
                ending = "ok" if response.status_code == 200 else str(response.status_code)
                detail = response.text
            except httpx.HTTPError as error:
                ending, detail = "cut", repr(error)
            tally.endings[ending] += 1
            tally.longest_s = max(tally.longest_s, time.monotonic() - started)
            if ending != "ok":
                tally.strange.append(f"{ending}: {detail[:300]}")


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    from tests.elastic.harness import Cluster

    cluster = Cluster(Path(tmp_path_factory.mktemp("e")))
    with cluster.running():
        import ray

        ray.init(cluster.address, namespace="serve", log_to_driver=False, configure_logging=False)
        yield _service(cluster)


def _service(cluster: Any) -> Elastic:
    """As `megacity up` deploys, but by Serve's own client: a dashboard would be half of the head's work here."""
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    http, grpc = free_ports(2)
    profile = load_profile(str(PROFILE), {"ingress": {"http": {"port": http}, "grpc": {"port": grpc}}})
    service = Elastic(cluster, f"http://127.0.0.1:{http}")
    service.at(12)
    serve.start(proxy_location="Disabled")
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(profile.document))
    wait_for(service.answers, START_S, lambda: str(serve.status()))
    return service


def wait_for(holds: Callable[[], Any], within_s: float, told: Callable[[], str]) -> float:
    """Seconds until something held; fails with what `told` says if it does not."""
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        if holds():
            return time.monotonic() - started
        time.sleep(0.2)
    pytest.fail(f"not within {within_s} s: {told()[-3000:]}")


ROUNDS = int(os.environ.get("ELASTIC_ROUNDS", "3"))
"""Notices and kills per run. 20 of each take some ten minutes."""


@pytest.fixture(scope="session")
def measured() -> Callable[[str, object], None]:
    """Takes down a figure; all of them go to the file that `ELASTIC_OUT` names."""
    found: dict[str, object] = {}
    out = os.environ.get("ELASTIC_OUT")

    def take(name: str, value: object) -> None:
        found[name] = value
        if out:
            Path(out).write_text(json.dumps(found, indent=2))

    return take
