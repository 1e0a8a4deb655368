"""Processes of an engine end with the one that started them, even if that is killed."""

import subprocess
import sys
import time
from pathlib import Path

import psutil


def test_nothing_outlives_a_process_that_is_killed() -> None:
    """The guard, on processes that would sleep on: a child and its own child."""
    parent = f"""
import subprocess, sys, time
sys.path.insert(0, {str(Path.cwd())!r})
from deployments.text.guard import guarded
inner = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", inner], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
guard = guarded([child.pid])
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        left = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        time.sleep(1)
        process.kill()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive
