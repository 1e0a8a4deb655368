import httpx
import pytest

from tests.api.stub import Stub


def chat(text: str = "hi", **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def test_a_decision_without_a_run(raw: httpx.AsyncClient, stub: Stub) -> None:
    stub.states["remote"] = "ready"
    answer = await raw.post("/api/v1/ai/route", json=chat(service_tier="flex", stream=True))
    assert answer.status_code == 200
    decision = answer.json()
    assert decision.pop("estimated_cost_usd") > 0
    assert decision == {
        "engine": "llm",
        "model": "tutor",
        "version": "3",
        "node_class": "onprem",
        "template": None,
        "priority": "batch",
        "reasons": ["default"],
        "alternatives": ["org/big"],
        "zone": None,
    }
    assert stub.jobs == []


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"metadata": {"zone": "nowhere"}}, 400, "metadata.zone"),
        ({"metadata": {"task": "nothing"}}, 400, "metadata.task"),
        ({"metadata": {"template": "none at all"}}, 400, "metadata.template"),
        ({"messages": []}, 400, "messages"),
    ],
)
async def test_what_cannot_be_routed(raw: httpx.AsyncClient, more: dict[str, object], status: int, param: str) -> None:
    answer = await raw.post("/api/v1/ai/route", json=chat() | more)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


async def test_alive(raw: httpx.AsyncClient) -> None:
    assert (await raw.get("/healthz")).json() == {"status": "ok"}


async def test_one_broken_engine_leaves_the_service_ready(raw: httpx.AsyncClient, stub: Stub) -> None:
    answer = await raw.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "engines": {"llm": "ready", "remote": "broken"}}
    stub.states["llm"] = "waking"
    assert (await raw.get("/readyz")).status_code == 200


async def test_not_ready_when_nothing_can_answer(raw: httpx.AsyncClient, stub: Stub) -> None:
    stub.states.update(llm="broken", remote="broken")
    answer = await raw.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["engines"] == {"llm": "broken", "remote": "broken"}
    assert answer.json()["error"]["code"] == "unavailable"
