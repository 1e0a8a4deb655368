"""Start a service and stop it without loss: a Ray cluster (its own, or one that is there), a profile on it, a drain."""

import asyncio
import io
import json
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serve_app import exposure
from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.profile import Profile
from serve_app.services.home import home
from serve_app.services.keys import opened

APP = "megacity"
PROJECT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 150_000_000  # answers travel inline; only media is ever large enough for the store
START_TIMEOUT_S = 900.0
POLL_S = 0.6  # asking takes CPU from the engines that are being started

# What crosses a Serve handle (leases of lines, and everything between nodes) goes over gRPC rather than Ray's task
# protocol. The gRPC server is there in any case, and asks for Ray's token. Not set:
# RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=0, which breaks every handle that is used outside an event loop. Nodes that join
# a cluster with `ray start` need the same in their environment.
FAST_PATH = {
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(64 * 2**20),
}
# What an idle service does is taken from the engines of a small machine: a third less with these.
QUIET = {
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.3",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
}
# Ray's workers give way to everything else (15) unless told otherwise; here they are what the machine is for.
NICENESS = "RAY_worker_niceness"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """What other commands need in order to find a service of this machine."""

    url: str
    grpc: str
    dashboard: str
    ray_address: str
    token_path: str
    logs: str
    pid: int


def remembered(port: int) -> Running | None:
    """The service that was started here on this HTTP port, if it is still running."""
    try:
        running = Running(**json.loads((home() / f"service-{port}.json").read_text()))
        os.kill(running.pid, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError, TypeError):
        return None
    return running


def up(profile: Profile, address: str | None, dashboard_port: int, say: Say) -> int:
    """Start, stay until a signal, drain and stop. Returns the exit code."""
    stop = _stop_on_signals()
    ingress = profile.settings.ingress
    _require_safety(profile.settings)
    _require_free_ports([ingress.http, ingress.grpc])
    started = time.monotonic()
    with _cluster(address, profile.settings, dashboard_port, say) as running_ray:
        if not _deploy(profile, running_ray["dashboard"], say, stop, started):
            return 0 if stop.is_set() else 1
        running = _announce(profile, running_ray, say, started)
        try:
            stop.wait()
        finally:
            say("draining: nothing new is accepted, what is in flight is finished (Ctrl-C again to cut it)")
            _undeploy()
            (home() / f"service-{ingress.http.port}.json").unlink(missing_ok=True)
            del running
    say("stopped")
    return 0


def _stop_on_signals() -> threading.Event:
    """An event that the first Ctrl-C or SIGTERM sets; the second Ctrl-C interrupts whatever is still waiting."""
    stop = threading.Event()

    def first(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, first)
    signal.signal(signal.SIGTERM, first)
    return stop


def _require_safety(settings: Settings) -> None:
    """Before Ray's environment is set below, because what was not set explicitly doesn't count."""

    async def check() -> None:
        async with opened(settings.store.url, home()) as keys:
            await exposure.check(settings, keys)

    if settings.ingress.exposed():
        asyncio.run(check())


def _require_free_ports(addresses: list[Any]) -> None:
    """Ingress replicas share their ports, so a stranger on one would go unnoticed: look before starting."""
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigError(
                    f"cannot listen on {address.host}:{address.port} ({reason}); "
                    "stop what uses it, or choose other ports with --port and --grpc-port"
                ) from error


@contextmanager
def _cluster(address: str | None, settings: Settings, dashboard_port: int, say: Say) -> Iterator[dict[str, str]]:
    """A Ray cluster to deploy on: the one at `address`, or a local one that ends with this block."""
    folder = Path(tempfile.mkdtemp(prefix="megacity-"))
    os.environ.update(_environment(folder))
    import ray

    say(f"joining the Ray cluster at {address}" if address else "starting a local Ray cluster")
    try:
        if address:
            context = ray.init(address, namespace="serve", log_to_driver=False, configure_logging=False)
        else:
            context = _local_ray(ray, folder, settings, dashboard_port)
        yield {
            "dashboard": f"http://{context.dashboard_url}",
            "address": context.address_info["address"],
            "logs": f"{context.address_info['session_dir']}/logs",
        }
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _local_ray(ray: Any, folder: Path, settings: Settings, dashboard_port: int) -> Any:
    """A cluster of this machine alone. Engines share its cores, however many a profile reckons with."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return ray.init(
        namespace="serve",
        num_cpus=max(os.cpu_count() or 1, math.ceil(settings.cores())),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=_free_port(dashboard_port),
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder),
    )


def _environment(folder: Path) -> dict[str, str]:
    """Set before Ray is imported; every process of a local cluster inherits it.

    Ray turns its token on or off by what it happens to find, so both the mode and the token are always given.
    """
    metrics = folder / "metrics"
    metrics.mkdir()
    return {
        **{name: os.environ.get(name, value) for name, value in (FAST_PATH | QUIET).items()},
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
        "RAY_AUTH_TOKEN_PATH": os.environ.get("RAY_AUTH_TOKEN_PATH", str(_token())),
        "RAY_USAGE_STATS_ENABLED": "0",
        NICENESS: os.environ.get(NICENESS, "0"),
        "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1",
        "MEGACITY_METRICS_DIR": str(metrics),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }


def _token() -> Path:
    """This machine's own Ray token, readable by its owner only."""
    path = home() / "ray-token"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no free port for the Ray dashboard")


def _deploy(profile: Profile, dashboard: str, say: Say, stop: threading.Event, started: float) -> bool:
    """Hand the profile to Serve as `serve deploy` does, and report each deployment until all can answer.

    False if that was given up: a signal came, or no engine at all could be started.
    """
    from ray import serve
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    serve.start(proxy_location="Disabled")
    ServeSubmissionClient(dashboard).deploy_applications(profile.document)
    said: dict[str, str] = {}
    while not stop.is_set():
        application = serve.status().applications.get(APP)
        if application is not None:
            _report(application, said, say, started)
            settled = _settled(application, list(profile.settings.engines))
            if settled is not None:
                return settled
        if time.monotonic() - started > START_TIMEOUT_S:
            say(f"gave up after {START_TIMEOUT_S:.0f} s; the Ray dashboard at {dashboard} shows what is missing")
            return False
        time.sleep(POLL_S)
    return False


def _report(application: Any, said: dict[str, str], say: Say, started: float) -> None:
    states = {name: _words(deployment) for name, deployment in application.deployments.items()}
    if application.status == "DEPLOY_FAILED" and not states:
        states["profile"] = f"could not be built: {_reason(application.message)}"
    for name, state in states.items():
        if said.get(name) != state:
            said[name] = state
            say(f"{time.monotonic() - started:5.1f} s  {name}: {state}")


def _words(deployment: Any) -> str:
    if deployment.replica_states.get("RUNNING"):
        return "ready"
    if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED"):
        return f"broken: {_reason(deployment.message)}"
    asleep = deployment.status == "HEALTHY" and not deployment.replica_states
    return "asleep until it is asked for" if asleep else "starting"


def _reason(message: str) -> str:
    """The line of a replica's failure that says what was wrong: the exception, not its trace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if "Error" in line.split(":")[0]), lines[0] if lines else "no reason given"
    )


def _settled(application: Any, engines: list[str]) -> bool | None:
    """True once the doors are open and every engine is up, asleep or broken, but one at least not broken."""
    deployments = application.deployments
    if application.status == "DEPLOY_FAILED" and not deployments:
        return False
    if not {"ingress", *engines} <= deployments.keys():
        return None
    words = {name: _words(deployment) for name, deployment in deployments.items()}
    if "starting" in words.values() or words["ingress"] != "ready":
        return False if words["ingress"].startswith("broken") else None
    return any(not words[name].startswith("broken") for name in engines)


def _announce(profile: Profile, running_ray: dict[str, str], say: Say, started: float) -> Running:
    http, grpc = profile.settings.ingress.http, profile.settings.ingress.grpc
    running = Running(
        url=f"http://{http.host}:{http.port}",
        grpc=f"{grpc.host}:{grpc.port}",
        dashboard=running_ray["dashboard"],
        ray_address=running_ray["address"],
        token_path=os.environ["RAY_AUTH_TOKEN_PATH"],
        logs=running_ray["logs"],
        pid=os.getpid(),
    )
    (home() / f"service-{http.port}.json").write_text(json.dumps(asdict(running)))
    say(f"ready after {time.monotonic() - started:.1f} s")
    say(f"  OpenAI API   {running.url}/v1")
    say(f"  Docs         {running.url}/docs")
    say(f"  gRPC         {running.grpc}")
    say(f"  Ray          {running.dashboard}   (token: {running.token_path})")
    say("  Try          megacity demo      Stop: Ctrl-C")
    return running


def _undeploy() -> None:
    """Serve's controller ends itself, which Ray takes for a failure and says so on this process's output."""
    from ray import serve

    serve.delete(APP)
    with redirect_stdout(io.StringIO()):
        serve.shutdown()
