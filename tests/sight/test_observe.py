"""Every ending of a run is counted and logged exactly once."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator

import pytest

from serve_app import logs, metrics
from serve_app.errors import BadRequest, QueueFull
from serve_app.stages.observe import observe
from serve_app.types import Artifact, Chat, Decision, Delta, Done, Event, Job, Kind, Message, Routed, Usage, Wish

ROUTED = Routed(Decision("llm", "nano", "1", "onprem"))
ANSWER: list[Event] = [
    ROUTED,
    Delta("four", tokens=2),
    Delta("teen", tokens=3),
    Done(Usage(prompt_tokens=7, completion_tokens=5)),
]


def job(model: str = "auto") -> Job:
    return Job("req-1", Kind.CHAT, Chat((Message("user", "CANARY prompt"),)), wish=Wish(model=model))


def playing(*script: Event | BaseException, pause_s: float = 0.0):
    async def handler(_: Job) -> AsyncGenerator[Event]:
        for item in script:
            await asyncio.sleep(pause_s)
            if isinstance(item, BaseException):
                raise item
            yield item

    return observe(handler)


async def drain(run, a_job: Job) -> list[Event]:
    return [event async for event in run(a_job)]


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def ending(status: str, model: str = "nano", engine: str = "llm") -> float:
    labels = {"door": "handle", "kind": "chat", "model": model, "engine": engine, "status": status}
    return value("megacity_requests_total", **labels)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    sink = io.StringIO()
    with contextlib.redirect_stderr(sink):
        logs.setup("json")
    yield sink
    logging.getLogger("megacity").handlers.clear()


async def test_a_whole_answer(lines: io.StringIO) -> None:
    before = {
        "ok": ending("ok"),
        "prompt": value("megacity_prompt_tokens_total", model="nano"),
        "written": value("megacity_completion_tokens_total", model="nano"),
        "ttft": value("megacity_time_to_first_token_seconds_count", kind="chat", model="nano"),
        "tpot": value("megacity_time_per_output_token_seconds_count", kind="chat", model="nano"),
    }
    assert await drain(playing(*ANSWER), job()) == ANSWER
    assert ending("ok") == before["ok"] + 1
    assert value("megacity_prompt_tokens_total", model="nano") == before["prompt"] + 7
    assert value("megacity_completion_tokens_total", model="nano") == before["written"] + 5
    assert value("megacity_time_to_first_token_seconds_count", kind="chat", model="nano") == before["ttft"] + 1
    assert value("megacity_time_per_output_token_seconds_count", kind="chat", model="nano") == before["tpot"] + 1
    line = json.loads(lines.getvalue())
    assert line["event"] == "request"
    assert line["request_id"] == "req-1"
    assert (line["status"], line["model"], line["engine"]) == ("ok", "nano", "llm")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 5)
    assert 0 <= line["ttft_ms"] <= line["duration_ms"]
    assert "CANARY" not in lines.getvalue()


async def test_time_per_token_leaves_out_what_came_first() -> None:
    labels = {"kind": "chat", "model": "paced"}
    events = [Routed(Decision("llm", "paced", "1", "onprem")), Delta("a", tokens=2), Delta("b", tokens=4)]
    done = Done(Usage(completion_tokens=6))
    await drain(playing(*events, done, pause_s=0.02), job())
    pace = value("megacity_time_per_output_token_seconds_sum", **labels)
    assert 0.02 / 4 <= pace < 0.06 / 4  # one pause over the four later tokens


async def test_the_tokens_of_several_choices_give_no_pace() -> None:
    events = [Routed(Decision("llm", "two-fold", "1", "onprem")), Delta("a"), Delta("b", index=1)]
    await drain(playing(*events, Done(Usage(completion_tokens=2), finish=("stop", "stop"))), job())
    assert not value("megacity_time_per_output_token_seconds_count", kind="chat", model="two-fold")


async def test_an_artifact_is_a_first_token() -> None:
    routed = Routed(Decision("image", "painter", "1", "onprem"))
    await drain(playing(routed, Artifact("a.png", "image/png", b"x"), Done()), job())
    assert value("megacity_time_to_first_token_seconds_count", kind="chat", model="painter") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(QueueFull("full"), "queue_full"), (BadRequest("no", code="made_up"), "invalid_request")],
)
async def test_an_error_is_counted_by_the_code_of_its_class(lines: io.StringIO, error: Exception, status: str) -> None:
    before, errors = ending(status), value("megacity_errors_total", door="handle", code=status)
    with pytest.raises(type(error)):
        await drain(playing(ROUTED, error), job())
    assert ending(status) == before + 1
    assert value("megacity_errors_total", door="handle", code=status) == errors + 1
    assert json.loads(lines.getvalue())["status"] == status


async def test_an_unknown_fault_is_told_without_its_message(lines: io.StringIO) -> None:
    before = ending("engine_failed")
    with pytest.raises(ValueError, match="CANARY"):
        await drain(playing(ROUTED, ValueError("CANARY in a value")), job())
    assert ending("engine_failed") == before + 1
    fault, request = map(json.loads, lines.getvalue().splitlines())
    assert (fault["event"], fault["error"], fault["request_id"]) == ("run_failed", "ValueError", "req-1")
    assert request["status"] == "engine_failed"
    assert "CANARY" not in lines.getvalue()


async def test_a_run_without_a_last_event_is_no_success() -> None:
    before = ending("engine_failed")
    await drain(playing(ROUTED, Delta("half")), job())
    assert ending("engine_failed") == before + 1


async def test_a_closed_run_is_cancelled_and_its_tokens_count(lines: io.StringIO) -> None:
    before, written = ending("cancelled"), value("megacity_completion_tokens_total", model="nano")
    run = playing(*ANSWER)(job())
    assert [await anext(run), await anext(run)] == ANSWER[:2]
    await run.aclose()
    await run.aclose()
    assert ending("cancelled") == before + 1
    assert value("megacity_completion_tokens_total", model="nano") == written + 2
    assert json.loads(lines.getvalue())["status"] == "cancelled"


async def test_a_cancelled_task_closes_the_engine() -> None:
    closed = asyncio.Event()

    async def engine(_: Job) -> AsyncGenerator[Event]:
        try:
            yield ROUTED
            await asyncio.sleep(60)
        finally:
            closed.set()

    before = ending("cancelled")
    task = asyncio.create_task(drain(observe(engine), job()))
    await asyncio.sleep(0.01)
    assert value("megacity_requests_in_flight", door="handle") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()
    assert ending("cancelled") == before + 1
    assert value("megacity_requests_in_flight", door="handle") == 0


async def test_closing_after_the_last_event_is_no_cancellation() -> None:
    before = ending("ok")
    run = playing(*ANSWER)(job())
    for _ in ANSWER:
        await anext(run)
    await run.aclose()
    assert ending("ok") == before + 1


async def test_a_made_up_model_or_door_never_becomes_a_label() -> None:
    logs.bind(door="CANARY door")
    with pytest.raises(BadRequest):
        await drain(playing(BadRequest("no")), job(model="CANARY model"))
    logs.bind(door="handle")
    page = metrics.exposition()[0].decode()
    assert "CANARY" not in page
    assert 'door="other",engine="none",kind="chat",model="other",status="invalid_request"' in page


async def test_route_decisions_tell_asked_from_chosen() -> None:
    labels = {"model": "nano", "engine": "llm", "node_class": "onprem"}
    auto = value("megacity_route_decisions_total", asked="auto", **labels)
    named = value("megacity_route_decisions_total", asked="model", **labels)
    await drain(playing(*ANSWER), job())
    await drain(playing(*ANSWER), job(model="nano"))
    assert value("megacity_route_decisions_total", asked="auto", **labels) == auto + 1
    assert value("megacity_route_decisions_total", asked="model", **labels) == named + 1


async def test_opentelemetry_names_and_labels() -> None:
    await drain(playing(*ANSWER), job(model="nano"))
    common = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "megacity",
        "gen_ai_request_model": "nano",
        "gen_ai_response_model": "nano",
    }
    assert value("gen_ai_client_token_usage_sum", gen_ai_token_type="output", **common) >= 5
    assert value("gen_ai_server_request_duration_seconds_count", error_type="", **common) >= 1
    assert value("gen_ai_server_time_to_first_token_seconds_count", **common) >= 1
    assert value("gen_ai_server_time_per_output_token_seconds_count", **common) >= 1
