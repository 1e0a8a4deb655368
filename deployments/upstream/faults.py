"""What an upstream's refusals mean here. Its own words are never passed on: they may hold the prompt, or an account."""

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from serve_app.errors import BadRequest, EngineFailed, MegaCityError, Refused, Unavailable

LONGEST_WAIT_S = 3600
QUOTA_REST_S = 300
"""How long an account that is used up is left alone: somebody has to pay first."""
SETTINGS_REST_S = 60
"""The same for a key, a model or an address that is wrong: somebody has to mend the profile."""

QUOTA = re.compile(r"quota|billing|credit|payment|balance", re.IGNORECASE)
RATE = re.compile(r"rate|too_many|overloaded|capacity", re.IGNORECASE)
CONTEXT = re.compile(r"context_length|string_above_max_length", re.IGNORECASE)


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> MegaCityError:
    """The error for a reply that is no answer."""
    words = _words(body)
    wait_s = retry_after_s(headers)
    if status == 402 or (status == 429 and QUOTA.search(words)):
        return _no_quota()
    if status == 429:
        return Refused("The remote model takes no more requests at the moment.", retry_after_s=wait_s or 1)
    if status >= 500 or status in (408, 409, 425):
        if wait_s is not None:
            return Refused("The remote model is overloaded.", retry_after_s=wait_s)
        return Unavailable("The remote model failed. Please try again.")
    if status in (400, 413, 422):
        if CONTEXT.search(words):
            return BadRequest("The prompt is too long for the remote model.", code="context_length_exceeded")
        return BadRequest("The remote model does not take this request. Change it or choose another model.")
    return Refused(
        "The remote model cannot be used: its provider refuses our key, address or model name.",
        code="backend_settings",
        retry_after_s=SETTINGS_REST_S,
    )


def told(error: Any, begun: bool) -> MegaCityError:
    """The error for an error that came within a stream."""
    words = _named(error)
    if begun:
        return EngineFailed("The remote model failed in the middle of its answer.")
    if QUOTA.search(words):
        return _no_quota()
    if RATE.search(words):
        return Refused("The remote model takes no more requests at the moment.", retry_after_s=1)
    return Unavailable("The remote model failed. Please try again.")


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Whole seconds, rounded up, from a number or a date (RFC 9110), or from the milliseconds that OpenAI sends."""
    milliseconds, value = headers.get("retry-after-ms", ""), headers.get("retry-after", "").strip()
    seconds: float | None = None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", milliseconds):
        seconds = float(milliseconds) / 1000
    elif re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        seconds = float(value)
    elif value:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return None if seconds is None else min(max(0, -int(-seconds // 1)), LONGEST_WAIT_S)


def _no_quota() -> Refused:
    return Refused("The account at the remote provider is used up.", code="backend_quota", retry_after_s=QUOTA_REST_S)


def _words(body: bytes) -> str:
    try:
        return _named(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _named(error: Any) -> str:
    """The names that providers give to errors; their messages are not for us."""
    if not isinstance(error, dict):
        return ""
    return " ".join(str(error.get(name) or "")[:64] for name in ("code", "type", "status"))
