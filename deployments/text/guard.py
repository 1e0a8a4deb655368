"""Ends processes when the one that started this one is gone, however it went: `python guard.py PID...`.

vLLM computes in processes of its own, which would keep a card's memory for ever if their replica were killed. They are
ended when this program's standard input does.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterable


def guarded(pids: Iterable[int]) -> "subprocess.Popen[bytes]":
    """A guard over these processes and their children. It ends them when its `stdin` is closed, or its owner dies."""
    command = [sys.executable, __file__, *map(str, pids)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def main() -> None:
    import psutil  # type: ignore[import-untyped]

    watched = [psutil.Process(int(pid)) for pid in sys.argv[1:] if psutil.pid_exists(int(pid))]
    sys.stdin.buffer.read()
    for process in watched:
        with contextlib.suppress(psutil.NoSuchProcess):  # also if another one has its number by now
            for one in (*process.children(recursive=True), process):
                one.kill()


if __name__ == "__main__":
    main()
