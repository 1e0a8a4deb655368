"""What is different when an engine is on another machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_files_follow_their_job_to_another_node(tmp_path: Path) -> None:
    environment = {**os.environ, "MEGACITY_HOME": str(tmp_path / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"PYTHONPATH": str(PROJECT), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "tests.cluster.two_nodes", str(tmp_path / "spool"), str(tmp_path / "found")]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found").read_text())
    assert [one["sha256"] for one in found] == [one["sent"] for one in found]
    assert all(one["other_path"] and one["gone"] and one["media_type"] == "video/mp4" for one in found)
