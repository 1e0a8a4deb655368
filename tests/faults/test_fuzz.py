"""Schemathesis against the published OpenAPI of a real service: thousands of requests, and never a fault of ours."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.cluster.conftest import Service

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

CASES = 5_000


def test_no_request_is_a_server_error(service: Service, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "st"),
        "run",
        f"{service.url}/openapi.json",
        "--phases=coverage,fuzzing",
        "--max-examples=450",
        "--checks=not_a_server_error",
        "--seed=7",
        "--request-timeout=20",
        "--exclude-path-regex=/docs",
        "--suppress-health-check=all",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    generated = max(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) generated", done.stdout))
    assert generated >= CASES, done.stdout[-1500:]
    assert httpx.get(f"{service.url}/readyz").status_code == 200
