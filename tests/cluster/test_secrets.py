"""Words that only a caller knows are in nothing that the service writes or shows."""

import json
from pathlib import Path

import httpx

from tests.cluster.conftest import Service

CANARY = "CANARY7Q"
ASKS = [
    {"messages": [{"role": "user", "content": f"{CANARY} 2 + 3 = ?"}]},
    {"messages": [{"role": "system", "content": CANARY}, {"role": "user", "content": "2 + 3 = ?"}], "stream": True},
    {"messages": [{"role": "user", "content": "2 + 3 = ?"}], "stop": [CANARY]},
    {"messages": [{"role": "user", "content": CANARY * 400}]},
    {"messages": [{"role": CANARY, "content": "hi"}]},
    {"messages": [{"role": "user", "content": "hi"}], "temperature": CANARY},
    {"messages": [{"role": "user", "content": "hi"}], "metadata": {"zone": CANARY}},
    {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": CANARY}}]},
    {"messages": CANARY},
]


def test_what_callers_say_is_written_nowhere(embedded: Service) -> None:
    told = "".join(_told(embedded))
    assert CANARY not in told
    logs = Path(json.loads(next(embedded.home.glob("service-*.json")).read_text())["logs"])
    written = [embedded.output, *_files(embedded.home), *_files(logs)]
    assert len(written) > 10
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []


def _told(service: Service) -> list[str]:
    """Errors, headers and metrics after requests of every kind with the word in them."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        answers = [client.post("/v1/chat/completions", json={"model": "nano-tutor", **ask}) for ask in ASKS]
        answers.append(client.post("/v1/chat/completions", content=f'{{"messages": {CANARY}'.encode()))
        answers.append(client.get("/v1/models", headers={"authorization": f"Bearer sk-{CANARY}"}))
        answers.append(client.post("/v1/completions", json={"model": "nano-tutor", "prompt": CANARY, "n": CANARY}))
        answers.append(client.get("/metrics"))
    assert {answer.status_code for answer in answers} >= {200, 400, 401}
    errors = [answer.text for answer in answers if answer.status_code >= 400]
    return [*errors, answers[-1].text, *(str(answer.headers) for answer in answers)]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
