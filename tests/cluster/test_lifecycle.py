"""Starting, stopping and everything that goes wrong between."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.cluster.conftest import Service, Start, eventually, free_ports, metric

CANARY = "주민번호 900101-1234567 canary-prompt"


def chat(service: Service, model: str, **more: object) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": CANARY}], **more}
    return httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60)


def test_ready_although_one_engine_is_broken(scripted: Service) -> None:
    assert eventually(lambda: httpx.get(f"{scripted.url}/readyz").json()["engines"]["unloadable"] == "broken", 30)
    ready = httpx.get(f"{scripted.url}/readyz")
    assert ready.status_code == 200
    assert ready.json()["engines"]["quick"] == "ready"
    assert chat(scripted, "quick-1").status_code == 200
    assert chat(scripted, "unloadable-1").status_code == 503


def test_a_sleeping_model_is_waited_for_when_named(scripted: Service) -> None:
    answer = chat(scripted, "asleep-1")
    assert answer.status_code == 200
    assert answer.headers["x-megacity-model"].startswith("asleep-1@")


def test_failure_in_mid_stream_is_told_honestly(scripted: Service) -> None:
    client = openai.OpenAI(base_url=f"{scripted.url}/v1", api_key="sk-local-standard", max_retries=0)
    stream = client.chat.completions.create(
        model="failing-1", messages=[{"role": "user", "content": CANARY}], stream=True
    )
    seen = []
    with pytest.raises(openai.APIError):
        seen.extend(chunk.choices[0].finish_reason for chunk in stream)
    assert set(seen) == {None}


def test_a_replica_that_dies_is_told_honestly_and_replaced(scripted: Service) -> None:
    with httpx.stream(
        "POST", f"{scripted.url}/v1/chat/completions", json=streamed("crashing-1"), timeout=60
    ) as response:
        text = response.read().decode()
    assert '"error"' in text
    assert '"finish_reason":"stop"' not in text
    assert chat(scripted, "quick-1").status_code == 200
    assert eventually(lambda: httpx.get(f"{scripted.url}/readyz").json()["engines"]["crashing"] == "ready", 30)


def streamed(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": CANARY}], "stream": True}


@pytest.mark.parametrize("after_tokens", [0, 3])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(scripted: Service, after_tokens: int, stream: bool) -> None:
    body = {**streamed("slow-1"), "stream": stream}
    timeout = httpx.Timeout(30, read=0.2 if after_tokens == 0 else 1.0 if not stream else 30)
    try:
        with httpx.stream("POST", f"{scripted.url}/v1/chat/completions", json=body, timeout=timeout) as response:
            lines = response.iter_lines()
            for _ in range(after_tokens * 2):
                next(lines)
            assert metric(scripted.url, "megacity_engine_slots_busy", engine="slow") == 1
    except httpx.ReadTimeout:
        pass
    assert eventually(lambda: metric(scripted.url, "megacity_engine_slots_busy", engine="slow") == 0, 1.0)


def test_slots_bound_what_an_engine_is_given(scripted: Service) -> None:
    threads = [threading.Thread(target=chat, args=(scripted, "slow-1"), kwargs={"max_tokens": 8}) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: metric(scripted.url, "megacity_engine_waiting", engine="slow") == 3, 5)
    assert metric(scripted.url, "megacity_engine_slots_busy", engine="slow") == 2
    for thread in threads:
        thread.join()
    assert eventually(lambda: metric(scripted.url, "megacity_engine_slots_busy", engine="slow") == 0, 2)


def test_no_log_holds_a_prompt(scripted: Service) -> None:
    chat(scripted, "quick-1")
    chat(scripted, CANARY)
    assert CANARY not in httpx.get(f"{scripted.url}/metrics").text
    running = json.loads((scripted.home / f"service-{scripted.port}.json").read_text())
    logs = [path for path in Path(running["logs"]).rglob("*") if path.is_file()]
    assert any(b'"event":"request"' in path.read_bytes() for path in logs)
    for path in [*logs, scripted.output]:
        assert b"canary-prompt" not in path.read_bytes(), path


def test_status_names_engines_and_memory(scripted: Service) -> None:
    command = [sys.executable, "-m", "serve_app.cli", "status", "--url", scripted.url, "--json"]
    told = json.loads(subprocess.run(command, env=scripted.environment(), capture_output=True, check=True).stdout)
    assert told["engines"]["quick"] == "ready"
    assert any("quick" in process["name"] and process["pss_mb"] > 10 for process in told["processes"])


def test_port_in_use_is_one_clear_line(scripted: Service) -> None:
    (other,) = free_ports(1)
    command = [sys.executable, "-m", "serve_app.cli", "up", "--port", str(scripted.port), "--grpc-port", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{scripted.port}" in done.stderr
    assert "--port" in done.stderr


def test_ctrl_c_in_mid_stream_finishes_the_stream_and_leaves_no_process(start: Start) -> None:
    service = start(Path(__file__).parent / "scripted.yaml")
    pieces: list[str] = []

    def read() -> None:
        with httpx.stream(
            "POST", f"{service.url}/v1/chat/completions", json=streamed("slow-1"), timeout=60
        ) as response:
            pieces.extend(response.iter_lines())

    reader = threading.Thread(target=read)
    reader.start()
    assert eventually(lambda: len(pieces) > 4, 10)
    stopped = time.monotonic()
    assert service.stop() == 0
    reader.join(5)
    assert pieces[-2:] == ["data: [DONE]", ""]
    assert sum('"content":"' in line for line in pieces) >= 99
    assert time.monotonic() - stopped < 40
    assert service.orphans() == []
