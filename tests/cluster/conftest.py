"""Real services for the tests: `megacity up` as a child process, on ports and folders of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

START_S = 118


@dataclass
class Service:
    """A running `megacity up`. `stop()` sends Ctrl-C and gives its exit code."""

    process: subprocess.Popen[str]
    port: int
    grpc_port: int
    dashboard_port: int
    home: Path
    output: Path
    family: list[psutil.Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, wait_s: float = 60) -> int:
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(wait_s)

    def orphans(self) -> list[psutil.Process]:
        """Processes of the service that outlived it by five seconds."""
        _, alive = psutil.wait_procs(self.family, timeout=5)
        return alive

    def environment(self) -> dict[str, str]:
        return {**os.environ, "MEGACITY_HOME": str(self.home)}


Start = Callable[..., Service]


@pytest.fixture(scope="package")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a service with any profile; all that are still running at the end are stopped."""
    started: list[Service] = []

    def _start(profile: str | Path, *arguments: str, wait: bool = True) -> Service:
        folder = tmp_path_factory.mktemp("service")
        service = _spawn(profile, arguments, folder)
        started.append(service)
        if wait:
            _wait_until_ready(service)
        return service

    yield _start
    for service in started:
        if service.process.poll() is None:
            service.stop()


def _spawn(profile: str | Path, arguments: tuple[str, ...], folder: Path) -> Service:
    http, grpc, dashboard = free_ports(3)
    output = folder / "output"
    ports = ["--port", str(http), "--grpc-port", str(grpc), "--dashboard-port", str(dashboard)]
    command = [sys.executable, "-m", "serve_app.cli", "up", "--profile", str(profile), *ports, *arguments]
    environment = {**os.environ, "MEGACITY_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, text=True, env=environment)
    return Service(process, http, grpc, dashboard, folder / "home", output)


def _wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + START_S
    while "ready after" not in service.output.read_text():
        if service.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the service did not start:\n{service.output.read_text()}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@pytest.fixture(scope="package")
def embedded(start: Start) -> Service:
    """The embedded profile, as `make run` starts it."""
    return start("embedded")


@pytest.fixture(scope="package")
def scripted(start: Start) -> Service:
    """Scripted engines: a slow one, a sleeping one, one that cannot load, one that fails, and one that dies."""
    return start(Path(__file__).parent / "scripted.yaml")


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    page = httpx.get(f"{url}/metrics").text
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    rows = [line for line in page.splitlines() if line.startswith(f"{name}{{") and all(w in line for w in wanted)]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


def eventually(holds: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()
