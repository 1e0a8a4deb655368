"""What the node agent sees and does, with real sockets, real executables and a real process to stop."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve_app.cluster.agent import Agent, Node
from serve_app.cluster.signs import Power, Sign, SpotNotice, Ups, apcaccess, upsc

APC = """APC      : 001,036,0879
DATE     : 2026-11-21 22:10:11 +0900
HOSTNAME : house
UPSNAME  : rack
STATUS   : {status}
LINEV    : 0.0 Volts
LOADPCT  : 61.0 Percent
BCHARGE  : {charge} Percent
TIMELEFT : {minutes} Minutes
MBATTCHG : 5 Percent
END APC  : 2026-11-21 22:10:13 +0900
"""
NUT = """battery.charge: {charge}
battery.charge.low: 10
battery.runtime: {seconds}
device.mfr: EATON
ups.load: 61
ups.status: {status}
"""


class Metadata(ThreadingHTTPServer):
    """EC2's instance metadata, version 2: nothing without a token, 404 while all is well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.notice: bytes | None = None
        self.tokens = 0
        self.broken = False


class _Answer(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self.server.tokens += 1
        asked = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._send(200 if asked and self.path == "/latest/api/token" else 400, f"token-{self.server.tokens}".encode())

    def do_GET(self) -> None:
        if self.server.broken:
            self._send(500, b"")
        elif self.headers.get("X-aws-ec2-metadata-token") != f"token-{self.server.tokens}":
            self._send(401, b"")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.server.notice is None:
            self._send(404, b"")
        else:
            self._send(200, self.server.notice)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes an executable that prints this text, where the agent looks for it."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, text: str, status: int = 0) -> None:
        (tmp_path / f"{name}.out").write_text(text)
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.out\nexit {status}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


def _url(server: Metadata) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_no_notice_is_no_sign_and_one_token_serves_many_looks(metadata: Metadata) -> None:
    watcher = SpotNotice(_url(metadata))
    assert [watcher.look() for _ in range(3)] == [None] * 3
    assert metadata.tokens == 1


def test_a_notice_says_when(metadata: Metadata) -> None:
    metadata.notice = b'{"action": "terminate", "time": "2026-11-21T13:00:00Z"}'
    sign = SpotNotice(_url(metadata)).look()
    assert sign == Sign("the cloud takes this machine back (terminate)", 1795266000.0, certain=True)


@pytest.mark.parametrize("notice", [b"", b"[]", b"null", b'{"action": 1}', b'{"action":"stop","time":"soon"}', b"\xff"])
def test_a_notice_that_cannot_be_read_gives_two_minutes(metadata: Metadata, notice: bytes) -> None:
    metadata.notice = notice
    sign = SpotNotice(_url(metadata)).look()
    assert sign
    assert sign.certain
    assert 100 < sign.deadline - time.time() < 130


def test_metadata_that_fails_is_no_sign_and_is_asked_anew(metadata: Metadata) -> None:
    watcher = SpotNotice(_url(metadata))
    metadata.broken = True
    assert watcher.look() is None
    metadata.broken, metadata.notice = False, b'{"action": "terminate", "time": "2026-11-21T13:00:00Z"}'
    assert watcher.look()


def test_nobody_answers_where_there_is_no_cloud() -> None:
    assert SpotNotice("http://127.0.0.1:9").look() is None


@pytest.mark.parametrize(
    ("text", "power"),
    [
        (APC.format(status="ONLINE", charge="100.0", minutes="45.5"), Power(False, 100.0, 2730.0)),
        (APC.format(status="ONBATT", charge="19.0", minutes="1.5"), Power(True, 19.0, 90.0)),
        (APC.format(status="ONBATT LOWBATT", charge="7.0", minutes="0.0"), Power(True, 7.0, 0.0, True)),
    ],
)
def test_apcupsd_is_understood(text: str, power: Power) -> None:
    assert apcaccess(text) == power


@pytest.mark.parametrize(
    ("text", "power"),
    [
        (NUT.format(status="OL CHRG", charge="100", seconds="2700"), Power(False, 100.0, 2700.0)),
        (NUT.format(status="OB DISCHRG", charge="18", seconds="95"), Power(True, 18.0, 95.0)),
        ("ups.status: OB LB\n", Power(True, low=True)),
    ],
)
def test_nut_is_understood(text: str, power: Power) -> None:
    assert upsc(text) == power


def test_a_ups_is_asked_by_its_own_command(tool: Callable[..., None]) -> None:
    ups = Ups(["apcaccess"], apcaccess, clock=lambda: 1000.0)
    assert ups.look() is None, "there is no such command"
    tool("apcaccess", APC.format(status="ONBATT", charge="21.0", minutes="9.0"))
    assert ups.look() is None, "above 20 %"
    tool("apcaccess", APC.format(status="ONBATT", charge="20.0", minutes="1.5"))
    assert ups.look() == Sign("mains power is away and the battery is at 20 %", 1090.0)
    tool("apcaccess", APC.format(status="COMMLOST", charge="20.0", minutes="1.5"))
    assert ups.look() is None, "a cable that was pulled is no power cut"
    tool("apcaccess", "Error contacting apcupsd", 1)
    assert ups.look() is None
    tool("upsc", NUT.format(status="OB LB", charge="40", seconds="700"))
    assert Ups(["upsc", "ups"], upsc, clock=lambda: 0.0).look() == Sign(
        "mains power is away and the battery is at 40 %", 120.0
    )


class Told:
    """A head that refuses and fails as often as it is told to, and keeps what it was asked."""

    def __init__(self, failures: int = 0, accepts: bool = True) -> None:
        self.failures = failures
        self.accepts = accepts
        self.drained: list[tuple[str, str]] = []
        self.published: list[str] = []

    def drain(self, node_id: str, reason: str, deadline_ms: int) -> tuple[bool, str]:
        self.drained.append((node_id, reason))
        if len(self.drained) <= self.failures:
            raise ConnectionError
        return self.accepts, "" if self.accepts else "no"

    def publish(self, part: str, value: dict[str, Any]) -> None:
        self.published.append(value["state"])


class Signs:
    """What a watcher says, look after look; the last for ever."""

    name = "made-up"

    def __init__(self, *signs: Sign | None) -> None:
        self.signs = list(signs)

    def look(self) -> Sign | None:
        return self.signs.pop(0) if len(self.signs) > 1 else self.signs[0]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def _agent(process: subprocess.Popen[bytes], head: Told, *signs: Sign | None) -> Agent:
    node = Node("h", "ab" * 28, process.pid)
    return Agent(node, head, [Signs(*signs)], 0.02, margin_s=0.0)  # type: ignore[arg-type]


def test_it_drains_waits_for_the_deadline_and_stops(process: subprocess.Popen[bytes]) -> None:
    head, started = Told(), time.time()
    sign = Sign("going", started + 1.0, certain=True)
    assert _agent(process, head, None, sign).run() == sign
    assert process.wait(5) == -15
    assert time.time() - started >= 1.0
    assert head.drained == [("ab" * 28, "going")]
    assert head.published == ["draining", "stopped: time was up"]


def test_it_stops_as_soon_as_ray_has_ended_by_itself(process: subprocess.Popen[bytes]) -> None:
    head, started = Told(), time.time()
    threading.Timer(0.3, process.terminate).start()
    _agent(process, head, Sign("going", started + 60.0, certain=True)).run()
    assert time.time() - started < 10
    assert head.published[-1] == "drained"


def test_a_head_that_is_away_is_asked_again(process: subprocess.Popen[bytes]) -> None:
    head = Told(failures=1)
    _agent(process, head, Sign("going", time.time() + 2.0, certain=True)).run()
    assert len(head.drained) == 2
    assert head.published[0] == "draining"


def test_a_head_that_never_answers_does_not_keep_the_machine(process: subprocess.Popen[bytes]) -> None:
    head = Told(failures=99)
    _agent(process, head, Sign("going", time.time() + 1.0, certain=True)).run()
    assert process.wait(5) == -15


def test_power_that_comes_back_cancels(process: subprocess.Popen[bytes]) -> None:
    low, head = Sign("battery", time.time() + 60.0), Told()
    agent = _agent(process, head, low, None, low, None, low, None)
    assert [agent.look() for _ in range(6)] == [None] * 6
    assert head.drained == []
    assert process.poll() is None


def test_power_that_stays_away_drains(process: subprocess.Popen[bytes]) -> None:
    low = Sign("battery", time.time() + 0.5)
    agent = _agent(process, Told(), low, low)
    assert [agent.look(), agent.look()] == [None, low]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serve_app.cli", "agent", "--head", "127.0.0.1:1", "--json"]
    done = subprocess.run([*command, "--pid", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "give --spot, --ups or --gpu" in done.stderr
    missing = [*command, "--node-id", "ab", "--spot", "--pid-file", str(tmp_path / "none")]
    done = subprocess.run(missing, capture_output=True, text=True, timeout=60, check=False)
    assert "holds no process id" in done.stderr


def test_the_command_ends_with_its_process(metadata: Metadata, process: subprocess.Popen[bytes]) -> None:
    threading.Timer(0.5, process.kill).start()
    command = [sys.executable, "-m", "serve_app.cli", "agent", "--head", "127.0.0.1:1", "--json", "--node-id", "ab"]
    command += ["--spot", "--spot-url", _url(metadata), "--pid", str(process.pid), "--every", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["ended"] == "the node's Ray ended by itself"
