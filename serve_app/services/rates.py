"""How much each caller may ask for in a minute: token buckets, of requests and of the tokens of models.

A bucket holds a minute's worth and fills evenly, so a caller that was quiet may come with a minute's worth at once.
Decisions are exact within a replica: nothing is awaited between looking and taking. Replicas don't talk to each other;
each grants an equal share, so that together they never grant more than the limit.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.errors import RateLimited
from serve_app.types import Caller

MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """`level` may fall below zero: what was used turned out to be more than what was taken."""

    size: float
    level: float
    at: float

    def fill(self, now: float) -> None:
        self.level = min(self.size, self.level + self.size * (now - self.at) / MINUTE_S)
        self.at = now

    def wait_s(self, level: float) -> float:
        """How long until it holds this much."""
        return max(0.0, (level - self.level) * MINUTE_S / self.size)


class Rates:
    """One per replica; `replicas` is how many there are. `clock` gives seconds that never go back."""

    def __init__(self, replicas: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._replicas = replicas
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, caller: Caller, tokens: int) -> int:
        """Count a request that may use `tokens`, and say how many of them were taken; raises `RateLimited`.

        A request that may use more than a full bucket takes all of it, or it could never run.
        """
        requests, words = self._of(caller)
        wanted = min(tokens, math.floor(words.size)) if words else 0
        if requests and requests.level < 1:
            raise _limited("requests", caller.requests_per_minute, requests.wait_s(1))
        if words and words.level < wanted:
            raise _limited("tokens", caller.tokens_per_minute, words.wait_s(wanted))
        if requests:
            requests.level -= 1
        if words:
            words.level -= wanted
        return wanted

    def settle(self, caller: Caller, taken: int, used: int) -> None:
        """Put right what `take` took, once it is known how many tokens were used."""
        _, words = self._of(caller)
        if words:
            words.level = min(words.size, words.level + taken - used)

    def headers(self, caller: Caller) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*` for this replica's share; `reset` is when the bucket will be full again."""
        told = {}
        for name, bucket in zip(("requests", "tokens"), self._of(caller), strict=True):
            if bucket:
                told[f"x-ratelimit-limit-{name}"] = str(math.floor(bucket.size))
                told[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level)))
                told[f"x-ratelimit-reset-{name}"] = f"{math.ceil(bucket.wait_s(bucket.size) * 1000)}ms"
        return told

    def _of(self, caller: Caller) -> tuple[Bucket | None, Bucket | None]:
        return (
            self._bucket(caller, "requests", caller.requests_per_minute),
            self._bucket(caller, "tokens", caller.tokens_per_minute),
        )

    def _bucket(self, caller: Caller, unit: str, per_minute: int | None) -> Bucket | None:
        """Filled up to now. There are never more of them than keys, because only a real key gets this far."""
        if per_minute is None:
            return None
        name, now = (caller.key or caller.tenant, unit), self._clock()
        size = max(1.0, per_minute / self._replicas)
        bucket = self._buckets.get(name)
        if bucket is None or bucket.size != size:
            bucket = self._buckets[name] = Bucket(size, size, now)
        bucket.fill(now)
        return bucket


def _limited(unit: str, limit: int | None, wait_s: float) -> RateLimited:
    seconds = max(1, math.ceil(wait_s))
    return RateLimited(
        f"This key may use {limit} {unit} a minute. Try again in {seconds} s, or ask for a higher limit.",
        retry_after_s=seconds,
    )
