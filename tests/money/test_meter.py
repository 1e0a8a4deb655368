"""Every ending of a run leaves exactly one row, with exactly the cost that the policy says."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from serve_app.errors import EngineFailed, InsufficientQuota, QueueFull, Unavailable
from serve_app.services.ledger import Ledger
from serve_app.services.store import Store
from serve_app.types import Delta, Done, Routed
from tests.money.rows import account, rows
from tests.money.runs import BOUND, COST, DECISION, ROUTED, USAGE, WHOLE, drain, job, metered

PROMPT_ESTIMATE = 2 + 2 + 2  # "three little words": a token per four letters, rounded up for every word


async def only_row(ledger: Ledger) -> dict[str, Any]:
    (row,) = await rows(ledger.store)
    assert row["settled_ms"] >= row["created_ms"]
    return row


async def test_a_whole_answer(ledger: Ledger) -> None:
    events = await drain(metered(ledger, *WHOLE), job(tenant="school", user="pupil"))
    assert events[:-1] == WHOLE[:-1]
    assert events[-1] == Done(replace(USAGE, cost_nano_usd=COST))
    row = await only_row(ledger)
    expected = {
        "request_id": "req-1", "tenant": "school", "user_id": "pupil", "zone": "campus", "door": "handle",
        "kind": "chat", "model": "nano", "version": "2", "engine": "llm", "node_class": "onprem", "state": "settled",
        "outcome": "ok", "attempts": 1, "prompt_tokens": 7, "completion_tokens": 5, "cached_tokens": 3,
        "engine_us": 250_000, "reserved_nano": BOUND, "cost_nano": COST, "saved_nano": 0, "account": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


async def test_an_answer_from_the_cache_costs_nothing_and_says_what_it_saved(ledger: Ledger) -> None:
    events = await drain(metered(ledger, Routed(DECISION, cache="hit"), *WHOLE[1:]), job())
    assert events[-1] == Done(USAGE)
    row = await only_row(ledger)
    assert (row["outcome"], row["cost_nano"], row["saved_nano"], row["engine_us"]) == ("cache_hit", 0, COST, 0)
    assert (row["attempts"], row["completion_tokens"]) == (0, 5)


@pytest.mark.parametrize(
    ("error", "outcome"), [(QueueFull("full"), "queue_full"), (ZeroDivisionError("a bug"), "engine_failed")]
)
async def test_a_failure_before_the_first_token_costs_nothing(ledger: Ledger, error: Exception, outcome: str) -> None:
    with pytest.raises(type(error)):
        await drain(metered(ledger, ROUTED, error), job())
    row = await only_row(ledger)
    assert (row["state"], row["outcome"], row["cost_nano"]) == ("settled", outcome, 0)


async def test_a_failure_in_the_middle_costs_what_came_out(ledger: Ledger) -> None:
    with pytest.raises(EngineFailed):
        await drain(metered(ledger, *WHOLE[:2], EngineFailed("broke")), job())
    row = await only_row(ledger)
    assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"]) == ("engine_failed", PROMPT_ESTIMATE, 2)
    assert row["cost_nano"] == PROMPT_ESTIMATE * 1000 + 2 * 2000


async def test_a_run_without_a_last_event_is_a_failure(ledger: Ledger) -> None:
    await drain(metered(ledger, *WHOLE[:2]), job())
    assert (await only_row(ledger))["outcome"] == "engine_failed"


@pytest.mark.parametrize(("read", "tokens"), [(1, 0), (2, 2), (3, 5)])
async def test_a_caller_who_leaves_pays_for_what_came_out(ledger: Ledger, read: int, tokens: int) -> None:
    run = metered(ledger, *WHOLE)(job())
    for _ in range(read):
        await anext(run)
    await run.aclose()
    await run.aclose()
    row = await only_row(ledger)
    assert (row["state"], row["outcome"], row["completion_tokens"]) == ("settled", "cancelled", tokens)
    assert row["cost_nano"] == (PROMPT_ESTIMATE * 1000 + tokens * 2000 if tokens else 0)


async def test_a_caller_who_leaves_after_the_last_event_has_had_it_all(ledger: Ledger) -> None:
    run = metered(ledger, *WHOLE)(job())
    for _ in WHOLE:
        await anext(run)
    await run.aclose()
    row = await only_row(ledger)
    assert (row["outcome"], row["cost_nano"]) == ("ok", COST)


async def test_a_cancelled_task_leaves_no_hold(ledger: Ledger) -> None:
    budget = {"key": "k", "budget_nano_usd": 10 * BOUND}
    task = asyncio.create_task(drain(metered(ledger, *WHOLE, pause_s=0.2), job(**budget)))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = await only_row(ledger)
    assert row["outcome"] == "cancelled"
    assert await account(ledger.store, "key:k") == (0, row["cost_nano"])


async def test_leaving_while_the_reservation_is_written_leaves_no_hold(ledger: Ledger) -> None:
    budget = {"key": "k", "budget_nano_usd": 10 * BOUND}
    await drain(metered(ledger, *WHOLE), job(**budget))
    for _ in range(30):
        task = asyncio.create_task(drain(metered(ledger, *WHOLE, pause_s=1), job(**budget)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await asyncio.sleep(0.2)
    assert all(row["state"] in ("settled", "released") for row in await rows(ledger.store))
    assert await account(ledger.store, "key:k") == (0, COST)


async def test_what_answers_is_what_is_charged(ledger: Ledger) -> None:
    second = Routed(replace(DECISION, engine="second"), attempts=2)
    await drain(metered(ledger, second, *WHOLE[1:]), job())
    row = await only_row(ledger)
    assert (row["engine"], row["attempts"]) == ("second", 2)


async def test_nothing_costs_more_than_was_reserved(ledger: Ledger) -> None:
    more = Done(replace(USAGE, completion_tokens=1000))
    events = await drain(metered(ledger, ROUTED, more), job())
    row = await only_row(ledger)
    assert row["cost_nano"] == BOUND == events[-1].usage.cost_nano_usd  # type: ignore[union-attr]
    assert row["completion_tokens"] == 1000


async def test_a_budget_is_a_hard_stop(ledger: Ledger) -> None:
    """50 at once against a budget for 10: ten run, and the others are told that waiting will not help."""
    handler = metered(ledger, ROUTED, Delta("x", tokens=10), Done(replace(USAGE, completion_tokens=10)), pause_s=0.1)
    budget = {"key": "k", "budget_nano_usd": 10 * BOUND}
    ends = await asyncio.gather(*(drain(handler, job(**budget)) for _ in range(50)), return_exceptions=True)
    refused = [end for end in ends if isinstance(end, InsufficientQuota)]
    assert len(refused) == 40
    assert {(error.status, error.code, error.retry_after_s) for error in refused} == {(429, "insufficient_quota", None)}
    found = await rows(ledger.store)
    assert len(found) == 10
    spent = sum(row["cost_nano"] for row in found)
    assert await account(ledger.store, "key:k") == (0, spent)
    assert spent <= 10 * BOUND


async def test_without_its_store_nothing_runs_unless_the_profile_says_so(tmp_path: Any) -> None:
    folder = tmp_path / "not-yet"
    folder.write_text("in the way")
    store = Store(f"sqlite:///{folder}/store.db")
    with pytest.raises(Unavailable):
        await drain(metered(Ledger(store), *WHOLE), job())
    lenient = Ledger(store, required=False)
    assert len(await drain(metered(lenient, *WHOLE), job())) == len(WHOLE)
    folder.unlink()
    await asyncio.sleep(1)
    row = await only_row(lenient)
    assert (row["outcome"], row["cost_nano"], row["reserved_nano"]) == ("ok", COST, 0)
    await store.close()
