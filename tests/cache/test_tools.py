"""Calls of tools are kept and told like any other answer; what they depend on is part of the key."""

from dataclasses import replace
from typing import Any

import pytest

from serve_app.policies.caching import key_of
from serve_app.services.kv import Memory
from serve_app.types import Chat, Done, Event, Job, Media, Message, Part, ResponseFormat, Routed, Tool, ToolDelta, Usage
from tests.cache.conftest import DECISION, SECRET, Engine, question

CALLS: list[Event] = [
    Routed(DECISION),
    ToolDelta("", 0, 0, "call_1", "add"),
    ToolDelta('{"a": "가"}', tokens=3),
    Done(Usage(3, 4, parts=(Part("other", Usage(1, 1)),)), ("tool_calls",)),
]


async def test_calls_come_back_as_they_were() -> None:
    engine = Engine(Memory(10_000), script=CALLS)
    first, second = await engine.ask(question()), await engine.ask(question())
    assert first[1:] == second[1:] == CALLS[1:]
    assert isinstance(second[0], Routed)
    assert second[0].cache == "hit"


async def test_an_answer_whose_tokens_nobody_counted_is_not_kept() -> None:
    estimated = [*CALLS[:-1], Done(Usage(3, 4), ("tool_calls",), estimated=True)]
    engine = Engine(Memory(10_000), script=estimated)
    assert [await engine.result(question()) for _ in range(2)] == ["miss", "miss"]


def with_payload(**changes: Any) -> Job:
    job = question()
    assert isinstance(job.payload, Chat)
    return replace(job, payload=replace(job.payload, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": (Tool("add"),)},
        {"tool_choice": "required"},
        {"parallel_tool_calls": False},
        {"response_format": ResponseFormat("json_object")},
        {"messages": (Message("user", "?", media=(Media("/a", "00", 1, "image/png"),)),)},
        {"messages": (Message("user", "?", name="mina"),)},
    ],
)
def test_whatever_the_answer_depends_on_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key_of(with_payload(**changes), SECRET) != key_of(question(), SECRET)


def test_where_a_file_lies_is_not() -> None:
    here, there = (with_payload(messages=(Message("user", "?", media=(Media(p, "00", 1),)),)) for p in ("/a", "/b"))
    assert key_of(here, SECRET) == key_of(there, SECRET)
