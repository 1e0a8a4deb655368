"""With one healthy candidate left, no fault of an upstream before its first token is seen; one after it is told.

Everything between the door and the upstream but Ray: meter, dispatch, the check of structured answers, the engines.
"""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from deployments.remote import Remote
from serve_app.errors import EngineFailed, MegaCityError, Refused
from serve_app.policies.pricing import NANO, Price, Tariff
from serve_app.services.ledger import Ledger
from serve_app.services.store import Store
from serve_app.stages.dispatch import dispatch
from serve_app.stages.meter import meter
from serve_app.stages.structured import structured
from serve_app.types import (
    Candidate,
    Chat,
    Decision,
    Delta,
    Done,
    Event,
    Handler,
    Job,
    Kind,
    Message,
    ResponseFormat,
    Routed,
    Sampling,
    ToolDelta,
    Wish,
)
from tests.money.rows import rows
from tests.remote.test_remote import TOOLS, patience
from tests.remote.upstream import WORDS, Upstream, running

BEFORE = [
    "quota", "rate", "overloaded", "key", "broken", "quota in stream", "told", "reset", "half", "silent", "slow", "cut",
    "garbage", "type", "endless", "html", "down",
]  # fmt: skip
AFTER = ["reset", "half", "silent", "slow", "cut", "garbage", "type", "told", "endless"]
PRICE = Price(context_tokens=4096, input=NANO, output=2 * NANO)
"""1,000 nano-dollars a prompt token, 2,000 a token written."""


class House:
    """A pipeline over remote engines: `first`, which has the fault, and `second`, which is well."""

    def __init__(self, run: Handler, ledger: Ledger, upstream: Upstream) -> None:
        self.run = run
        self.ledger = ledger
        self.upstream = upstream

    async def ask(self, plan: str = "first second", whole: bool = False, **payload: Any) -> list[Event]:
        return [event async for event in self.run(job(plan, whole, **payload))]

    async def row(self) -> dict[str, Any]:
        await self.ledger.close()
        (row,) = await rows(self.ledger.store)
        return row


def job(plan: str, whole: bool, **payload: Any) -> Job:
    candidates = tuple(Candidate(Decision(name, f"model-{name}", "1", "remote")) for name in plan.split())
    chat = Chat((Message("user", "hello"),), Sampling(max_tokens=100), **payload)
    return Job("job-1", Kind.CHAT, chat, wish=Wish(whole=whole), plan=candidates)


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running())
        store = Store(f"sqlite:///{tmp_path}/store.db")
        stack.push_async_callback(store.close)

        async def make(fault: str, well: str = "steady") -> House:
            engines: dict[str, Handler] = {}
            for name, model in (("first", fault), ("second", well)):
                url = _nobody() if model.startswith("down") else upstream.url
                engine = Remote(Remote.Options.model_validate({"base_url": url, "model": model, **patience(model)}))
                await engine.load()
                stack.push_async_callback(engine.close)
                engines[name] = structured(engine.run)
            tariff = Tariff({(f"model-{name}", "1"): PRICE for name in engines})
            ledger = Ledger(store)
            return House(meter(ledger, tariff)(dispatch(engines, dict, lambda _: None)), ledger, upstream)

        yield make


def _nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


async def broken(house: House, plan: str = "first second", **payload: Any) -> tuple[list[Event], MegaCityError]:
    came: list[Event] = []
    try:
        async for event in house.run(job(plan, False, **payload)):
            came.append(event)
    except MegaCityError as error:
        return came, error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("fault", BEFORE)
async def test_before_the_first_token_no_fault_is_seen(build: Any, fault: str) -> None:
    house = await build(f"{fault}-before")
    routed, *deltas, done = await house.ask()
    assert isinstance(routed, Routed)
    assert (routed.decision.engine, routed.attempts) == ("second", 2)
    assert len(deltas) == WORDS
    assert isinstance(done, Done)
    row = await house.row()
    assert (row["outcome"], row["engine"], row["attempts"], row["completion_tokens"]) == ("ok", "second", 2, WORDS)
    assert row["cost_nano"] == 5 * 1000 + WORDS * 2000 == done.usage.cost_nano_usd


@pytest.mark.parametrize("fault", AFTER)
async def test_after_it_the_stream_ends_with_an_error_and_the_ledger_says_what_came(build: Any, fault: str) -> None:
    house = await build(f"{fault}-after")
    (routed, *deltas), error = await broken(house)
    assert isinstance(routed, Routed)
    assert routed.decision.engine == "first"
    assert type(error) is EngineFailed
    assert all(isinstance(event, Delta) for event in deltas)
    row = await house.row()
    assert (row["outcome"], row["engine"]) == ("engine_failed", "first")
    assert row["completion_tokens"] == len(deltas) == WORDS // 2
    assert row["cost_nano"] == row["prompt_tokens"] * 1000 + len(deltas) * 2000 > 0


@pytest.mark.parametrize("fault", ["reset", "garbage", "silent"])
async def test_who_sees_nothing_before_the_end_sees_no_fault_at_all(build: Any, fault: str) -> None:
    events = await (await build(f"{fault}-after")).ask(whole=True)
    last = max(at for at, event in enumerate(events) if isinstance(event, Routed))
    routed, *deltas, done = events[last:]
    assert isinstance(routed, Routed)
    assert routed.decision.engine == "second"
    assert len(deltas) == WORDS
    assert isinstance(done, Done)


@pytest.mark.parametrize("fault", ["quota", "rate", "key"])
async def test_what_would_be_refused_again_is_not_asked_again(build: Any, fault: str) -> None:
    house = await build(f"{fault}-before")
    _, error = await broken(house, "first")
    assert type(error) is Refused
    assert len(house.upstream.asked) == 1
    for _ in range(3):
        assert isinstance((await house.ask())[-1], Done)
    assert sum(asked["model"] != "steady" for asked in house.upstream.asked) == 1


async def test_answers_that_are_not_the_json_that_was_asked_for(build: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = ResponseFormat("json_schema", json.dumps(schema))
    house = await build("steady", "json")
    _, error = await broken(house, response_format=form)
    assert error.code == "bad_json"
    events = await house.ask(whole=True, response_format=form)
    assert "".join(event.text for event in events[-3:] if isinstance(event, Delta)) == '{"a": 1}'


async def test_calls_come_through_and_are_held_to_their_schema(build: Any) -> None:
    house = await build("steady")
    events = await house.ask(tools=TOOLS)
    assert "".join(event.arguments for event in events if isinstance(event, ToolDelta)) == '{"a": 1, "b": 2}'
    narrow = (TOOLS[0].__class__("add", "", '{"type": "object", "properties": {"a": {"type": "string"}}}'),)
    _, error = await broken(house, tools=narrow)
    assert error.code == "bad_arguments"
