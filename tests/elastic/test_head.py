"""The head's machine is lost and comes back: doors and engines answer without it, and it finds them again.

Ray keeps what it knows in a Redis on the head's own disk, as `ops/onprem` has it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serve_app.cluster import state
from serve_app.profile import load_profile
from tests.cache.conftest import Server
from tests.cluster.conftest import free_ports
from tests.elastic.conftest import Elastic, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
Record = Callable[[str, object], None]

PROFILE = Path(__file__).parent / "house.yaml"
DRIVER = Path(__file__).parent / "driver.py"
WITHOUT_HEAD_S = 8


class House:
    """A head that can be lost, with one machine beside it."""

    def __init__(self, folder: Path) -> None:
        from tests.elastic.harness import Cluster

        self.folder = folder
        redis, *self.doors = free_ports(3)
        self.redis = Server(redis, folder, ("--appendonly", "yes"))
        extra = {
            "RAY_REDIS_ADDRESS": f"127.0.0.1:{redis}",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
            "RAY_FAKE_CLUSTER": "",  # which gives every head the same id, as no real one has
        }
        self.cluster = Cluster(folder, extra=extra)
        self.service = Elastic(self.cluster, f"http://127.0.0.1:{self.doors[0]}")

    def start(self) -> None:
        """The head's machine boots: Redis with what it had written, then Ray."""
        self.redis.start()
        (self.folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)  # two machines would not share it
        self.head = self.cluster.start_head("--num-cpus=2")
        assert self.head.poll() is None, (self.folder / "head.log").read_text()[-3000:]

    def lose(self) -> None:
        """Every process of the head's machine at once."""
        assert self.redis.process
        head = psutil.Process(self.head.pid)
        for process in [self.redis.process, head, *head.children(recursive=True)]:
            process.kill()
        self.redis.process.wait()
        self.head.wait()

    def stop(self) -> None:
        self.cluster.stop()
        self.redis.stop()

    def deploy(self) -> None:
        http, grpc = self.doors
        profile = load_profile(str(PROFILE), {"ingress": {"http": {"port": http}, "grpc": {"port": grpc}}})
        self._drive("deploy", json.dumps(profile.document))

    def replicas(self, engine: str) -> set[int]:
        *_, last = self._drive("replicas").splitlines()  # Ray itself may have said something before
        return set(json.loads(last).get(engine, ()))

    def _drive(self, task: str, told: str = "") -> str:
        command = [sys.executable, str(DRIVER), self.cluster.address, task]
        done = subprocess.run(
            command, env=self.cluster.environment, input=told, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    from tests.elastic.harness import GcsClient

    house = House(tmp_path_factory.mktemp("h"))  # Ray's sockets lie below it, and their paths must be short
    try:
        house.start()
        house.cluster.gcs = GcsClient(address=house.cluster.address)
        house.cluster.join("house")
        house.deploy()
        wait_for(house.service.answers, 120, (house.folder / "head.log").read_text)
        wait_for(lambda: len(house.replicas("worker")) == 2, 60, (house.folder / "head.log").read_text)
        yield house
    finally:
        house.stop()


def test_a_lost_head_costs_no_request_and_finds_everything_again(house: House, measured: Record) -> None:
    before, doors = house.replicas("worker"), house.replicas("ingress")
    with house.service.load(workers=2) as tally:
        house.lose()
        time.sleep(WITHOUT_HEAD_S)
        answered = tally.endings["ok"]
        house.start()
        back = wait_for(lambda: house.replicas("worker") == before, 60, lambda: "what ran is not what runs")
        wait_for(lambda: house.replicas("ingress") == doors, 10, lambda: "the doors are others")
        os.kill(min(before), signal.SIGKILL)
        replaced = wait_for(lambda: len(house.replicas("worker") - {min(before)}) == 2, 60, lambda: "")
        wait_for(lambda: _told(house), 30, lambda: str(state.read(house.cluster.gcs)))
    assert answered >= 4, "without a head"
    assert tally.failed == 0, tally.strange
    measured("head_s", {"back": round(back, 1), "then_replaced": round(replaced, 1), "answered": tally.endings["ok"]})


def _told(house: House) -> bool:
    """The fleet's state is there again, and of now."""
    fleet = state.read(house.cluster.gcs).get("fleet", {})
    return not fleet.get("stale", True) and fleet["engines"]["worker"]["running"] == 2
