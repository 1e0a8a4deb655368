"""Which answers may be given again, and which questions are the same."""

import dataclasses
import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from serve_app.types import Chat, Completion, Job

FORMAT = "3"
"""Part of every key. Raise it when the form of keys or values changes, and old entries are no longer found."""


@dataclass(frozen=True, slots=True)
class CacheRules:
    """The answers that are kept. `sampled`: also those that would turn out differently if they were asked for again.

    `max_mb` is for one ingress process; with `redis`, a `redis://` or `rediss://` URL, answers are kept there instead.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by the profile loader, never changed

    enabled: bool = True
    ttl_s: int = 86_400
    max_mb: int = 64
    sampled: bool = False
    redis: str | None = None

    def __post_init__(self) -> None:
        if self.ttl_s < 1 or self.max_mb < 1:
            raise ValueError("ttl_s and max_mb must be at least 1; to keep nothing, set enabled: false")
        if self.redis is not None and not self.redis.startswith(("redis://", "rediss://")):
            raise ValueError("redis must be a redis:// or rediss:// URL")


def may_keep(job: Job, rules: CacheRules) -> bool:
    """Whether the answer to a job may be kept and given again."""
    payload = job.payload
    sampled = rules.sampled and isinstance(payload, Chat | Completion)
    return rules.enabled and not job.wish.no_store and (sampled or payload.repeatable)


def key_of(job: Job, secret: bytes) -> bytes:
    """All that the answer depends on, as a keyed hash: equal for equal questions of one tenant, and for no others."""
    best = job.plan[0]
    question = {
        "format": FORMAT,
        "tenant": job.caller.tenant,
        "kind": job.kind,
        "model": best.decision.model,
        "version": best.decision.version,
        "instructions": best.instructions,
        "needs": sorted(job.wish.needs),
        "payload": plain(job.payload),
    }
    canonical = json.dumps(question, sort_keys=True, separators=(",", ":"))
    return hmac.digest(secret, canonical.encode(), hashlib.sha256)


def plain(value: Any) -> Any:
    """A payload as what JSON knows, with the names of its types and of all its fields, also of future ones.

    Left out is only what two equal values may differ in. Raises `TypeError` for what has no such form, so that nothing
    is left out of a key silently.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare}
        return {"type": type(value).__name__, "fields": fields}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"type": "bytes", "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")
