"""Token buckets: exact, bounded, and told in headers."""

import asyncio

import pytest

from serve_app.errors import RateLimited
from serve_app.services.rates import Rates
from serve_app.types import Caller
from tests.guard.conftest import House, ask


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_and_then_evenly() -> None:
    clock = Clock()
    rates, caller = Rates(clock=clock), Caller(key="k", requests_per_minute=60)
    for _ in range(60):
        rates.take(caller, 0)
    with pytest.raises(RateLimited) as refused:
        rates.take(caller, 0)
    assert refused.value.retry_after_s == 1
    clock.now += 1
    rates.take(caller, 0)
    with pytest.raises(RateLimited):
        rates.take(caller, 0)


def test_tokens_are_taken_before_and_put_right_after() -> None:
    clock = Clock()
    rates, caller = Rates(clock=clock), Caller(key="k", tokens_per_minute=600)
    assert rates.take(caller, 500) == 500
    with pytest.raises(RateLimited) as refused:
        rates.take(caller, 200)
    assert refused.value.retry_after_s == 10
    rates.settle(caller, 500, 50)
    assert rates.headers(caller)["x-ratelimit-remaining-tokens"] == "550"


def test_a_request_larger_than_the_bucket_takes_all_of_it() -> None:
    rates, caller = Rates(clock=Clock()), Caller(key="k", tokens_per_minute=600)
    assert rates.take(caller, 10_000) == 600
    rates.settle(caller, 600, 900)
    assert rates.headers(caller)["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimited) as refused:
        rates.take(caller, 1)
    assert refused.value.retry_after_s == 31


def test_replicas_share() -> None:
    rates, caller = Rates(replicas=4, clock=Clock()), Caller(key="k", requests_per_minute=8)
    rates.take(caller, 0)
    rates.take(caller, 0)
    with pytest.raises(RateLimited, match="8 requests"):
        rates.take(caller, 0)


def test_keys_have_buckets_of_their_own_and_no_limit_has_none() -> None:
    rates = Rates(clock=Clock())
    for key in ("one", "two"):
        rates.take(Caller(key=key, requests_per_minute=1), 0)
    for _ in range(1000):
        rates.take(Caller(), 10**9)
    assert rates.headers(Caller()) == {}


async def test_two_race_for_the_last_one(house: House) -> None:
    secret = await house.key(requests_per_minute=1)
    async with house.door() as client:
        answers = await asyncio.gather(*(ask(client, secret) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 7
    assert len(house.stub.jobs) == 1


async def test_headers_of_answers_and_refusals(house: House) -> None:
    secret = await house.key(requests_per_minute=2, tokens_per_minute=1000)
    async with house.door() as client:
        first = await ask(client, secret, max_tokens=100)
        stream = await ask(client, secret, stream=True)
        refused = await ask(client, secret)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert int(first.headers["x-ratelimit-reset-requests"].removesuffix("ms")) <= 30_000
    assert stream.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


async def test_what_was_used_is_what_counts(house: House) -> None:
    secret = await house.key(tokens_per_minute=10_000)
    async with house.door() as client:
        await ask(client, secret, max_tokens=9_000)
        after = await client.get("/v1/models", headers={"authorization": f"Bearer {secret}"})
    assert int(after.headers["x-ratelimit-remaining-tokens"]) >= 10_000 - 8  # the stub uses eight
