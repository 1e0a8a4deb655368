"""A Ray cluster whose machines are processes: a head with autoscaler v2 and a cloud to edit, ended by process id."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKEN = Path(tempfile.mkdtemp(prefix="megacity-token-")) / "token"
TOKEN.write_text(secrets.token_hex(16))
TOKEN.chmod(0o600)
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(TOKEN)})  # Ray looks once, when it is imported

import psutil  # noqa: E402
import ray  # noqa: E402
from ray._raylet import GcsClient  # noqa: E402

from tests.cluster.conftest import free_ports  # noqa: E402

PROJECT = Path(__file__).parents[2]
HEAD_ID = "f" * 51 + "00000"
BIN = Path(sys.executable).parent
SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}


def node_type(pool: str, priority: int, most: int, spot: bool) -> dict[str, Any]:
    return {
        "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 80_000_000},
        "labels": {"pool": pool, "gpu": "rtx-5090", "region": "kr"},
        "priority": priority,
        "max_workers": most,
        "node_config": SPOT if spot else {},
    }


@dataclass
class Cluster:
    """A head with `types` of machines to be rented. Use `with cluster.running():`."""

    folder: Path
    provider: str = "tests.elastic.fake_cloud.Falling"
    types: Mapping[str, Any] = field(
        default_factory=lambda: {
            "cloud_spot": node_type("spot", 50, 4, spot=True),
            "cloud_od": node_type("ondemand", 10, 4, spot=False),
        }
    )
    fallback: Mapping[str, float] = field(default_factory=lambda: {"cooldown_s": 20.0, "young_s": 3.0})
    idle_s: float = 6.0
    extra: Mapping[str, str] = field(default_factory=dict)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port, self.client = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        (self.folder / "sold_out").write_text("")
        (self.folder / "orders.jsonl").touch()
        self.environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_autoscaler_v2": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_worker_niceness": "0",
            "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
            "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
            "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY": "1",
            "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",
            "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
            "RAY_SCHEDULER_EVENTS": "0",
            "MEGACITY_HOME": str(self.folder / "home"),
            "MEGACITY_METRICS_DIR": str(self.folder / "metrics"),
            "PYTHONPATH": str(PROJECT),
            **self.extra,
        }
        (self.folder / "metrics").mkdir()
        (self.folder / "home").mkdir()

    @contextlib.contextmanager
    def running(self) -> Iterator["Cluster"]:
        try:
            if not self._start_scaling_head():  # Ray gives its processes 30 s, which a busy machine may not keep
                assert self._start_scaling_head(), (self.folder / "head.log").read_text()[-3000:]
            self.gcs = GcsClient(address=self.address)
            yield self
        finally:
            self.stop()

    def join(self, pool: str, gpus: int = 1, cpus: int = 2) -> subprocess.Popen[bytes]:
        """A machine that somebody adds by hand."""
        command = ["start", f"--address={self.address}", f"--num-gpus={gpus}", f"--num-cpus={cpus}"]
        return self._ray(command, f"--labels=pool={pool},gpu=rtx-5090,region=kr")

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The machines that Ray takes to be alive, but for the head: id to labels and type."""
        return {
            node_id.hex(): {"labels": dict(info.labels), "type": info.node_type_name, "rented": bool(info.instance_id)}
            for node_id, info in self.gcs.get_all_node_info(timeout=10).items()
            if info.state == 0 and not info.is_head_node
        }

    def all_alive(self) -> set[str]:
        return {node_id.hex() for node_id, info in self.gcs.get_all_node_info(timeout=10).items() if info.state == 0}

    def orders(self, what: str, market: str = "") -> list[dict[str, Any]]:
        lines = (self.folder / "orders.jsonl").read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["what"] == what and market in ("", one["market"])]

    def rented(self) -> list[str]:
        """Every machine that was ever launched."""
        return [path.stem for path in self.folder.glob(f"{HEAD_ID[:40]}*.json")]

    def sell_out(self, *markets: str) -> None:
        (self.folder / "sold_out").write_text(" ".join(markets))

    def pids(self, node_id: str) -> list[int]:
        return list(json.loads((self.folder / f"{node_id}.json").read_text())["pids"])

    def pull_the_plug(self, node_id: str) -> None:
        """A machine that is gone without a word: its raylet, and every worker of it."""
        family = [psutil.Process(pid) for pid in self.pids(node_id) if psutil.pid_exists(pid)]
        family += [child for parent in family for child in parent.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """End what was started here, and what still names this folder."""
        ray.shutdown()
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        psutil.wait_procs([psutil.Process(child.pid) for child in self.children if child.poll() is None], 5)
        for process in self.leftovers():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for child in self.children:
            child.wait()

    def leftovers(self) -> list[psutil.Process]:
        mine = str(self.folder)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and mine in process.environ().get("MEGACITY_HOME", ""):
                    found.append(process)
        return found

    def start_head(self, *options: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Its process, when it answers or has ended."""
        head = self._ray(
            ["start", "--head", f"--port={self.port}", "--include-dashboard=false"],
            f"--ray-client-server-port={self.client}",
            f"--temp-dir={self.folder}/ray",
            "--object-store-memory=150000000",
            "--labels=pool=head,region=kr",
            "--num-gpus=0",
            *options,
            more=more,
        )
        eventually(lambda: self._answers() or head.poll() is not None, 240)
        return head

    def _start_scaling_head(self) -> bool:
        config = self.folder / "cluster.json"
        config.write_text(json.dumps(self._config()))
        identity = {
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
            "RAY_NODE_TYPE_NAME": "ray.head.default",
        }
        return self.start_head("--num-cpus=4", f"--autoscaling-config={config}", more=identity).poll() is None

    def _answers(self) -> bool:
        try:
            return bool(GcsClient(address=self.address).get_all_node_info(timeout=2))
        except Exception:  # noqa: BLE001 - not there yet, in whatever way
            return False

    def _ray(self, command: list[str], *options: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        arguments = [str(BIN / "ray"), *command, *options, "--block", "--node-ip-address=127.0.0.1"]
        arguments += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
        with (self.folder / "head.log").open("ab") as log:
            child = subprocess.Popen(arguments, env={**self.environment, **(more or {})}, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def _config(self) -> dict[str, Any]:
        return {
            "cluster_name": "fake",
            "max_workers": 10,
            "idle_timeout_minutes": self.idle_s / 60,
            "provider": {
                "type": "external",
                "module": self.provider,
                "gcs_address": self.address,
                "head_node_id": HEAD_ID,
                "launch_multiple": True,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
                "folder": str(self.folder),
                "fallback": dict(self.fallback),
            },
            "auth": {},
            **dict.fromkeys(("setup_commands", "head_setup_commands", "worker_setup_commands"), ()),
            **dict.fromkeys(("initialization_commands", "cluster_synced_files"), ()),
            **dict.fromkeys(("head_start_ray_commands", "worker_start_ray_commands"), ()),
            "file_mounts": {},
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
                **self.types,
            },
        }


def eventually(holds: Callable[[], Any], within_s: float, every_s: float = 0.2) -> float | None:
    """Seconds until something held, or None if it did not."""
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        if holds():
            return time.monotonic() - started
        time.sleep(every_s)
    return None
