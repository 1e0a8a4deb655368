"""`GET /metrics` of any process of a node shows what all of them counted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app import metrics

COUNT = """
from serve_app import metrics
metrics.REQUESTS.labels("http", "chat", "nano", "llm", "ok").inc({amount})
metrics.TTFT.labels("chat", "nano").observe(0.03)
metrics.ENGINE_BUSY.labels("llm").set({busy})
"""
SHOW = "print(metrics.exposition()[0].decode())"


def process(code: str, **env: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("MEGACITY_METRICS_DIR",)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**clean, **env}, stdin=-1, stdout=-1, text=True, cwd=Path.cwd()
    )


@pytest.mark.parametrize("prefix", ["", "import prometheus_client\n"])
def test_the_sum_over_processes_without_the_dead_ones_gauges(tmp_path: Path, prefix: str) -> None:
    folder = str(tmp_path / "metrics")
    dead = process(prefix + COUNT.format(amount=2, busy=5), MEGACITY_METRICS_DIR=folder)
    dead.communicate()
    live = process(COUNT.format(amount=3, busy=1) + "print(flush=True); input()", MEGACITY_METRICS_DIR=folder)
    assert live.stdout
    live.stdout.readline()
    page, _ = process("from serve_app import metrics\n" + SHOW, MEGACITY_METRICS_DIR=folder).communicate()
    live.communicate("\n")
    labels = 'door="http",engine="llm",kind="chat",model="nano",status="ok"'
    assert f"megacity_requests_total{{{labels}}} 5.0" in page
    assert 'megacity_time_to_first_token_seconds_count{kind="chat",model="nano"} 2.0' in page
    assert 'megacity_engine_slots_busy{engine="llm"} 1.0' in page


def test_under_ray_the_processes_of_a_node_find_each_other(tmp_path: Path) -> None:
    ray = {"RAY_RAYLET_PID": "4242", "TMPDIR": str(tmp_path)}
    process(COUNT.format(amount=2, busy=0), **ray).communicate()
    page, _ = process("from serve_app import metrics\n" + SHOW, **ray).communicate()
    assert 'status="ok"} 2.0' in page
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_format_follows_the_accept_header() -> None:
    assert metrics.exposition()[1].startswith("text/plain")
    page, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_no_label_can_hold_a_caller() -> None:
    labels = {name for family in metrics.REGISTRY._names_to_collectors.values() for name in family._labelnames}
    assert not labels & {"user", "tenant", "key", "prompt", "path", "request_id", "template"}
