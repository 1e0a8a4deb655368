"""Logs: one JSON object per line on stderr, made of known fields only.

What is not in `Fields` is not written, so that no prompt, transcript or file name gets in by accident. Of an exception
the type and the code lines are told, never its message: it may quote what the caller sent. `bind` gives every later
line of the same request its id.
"""

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import PurePath
from typing import Any, Literal, TypedDict, Unpack

import orjson

LOGGER = logging.getLogger("megacity")
FRAMES = 12
LONGEST = 200  # characters of a value

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class Fields(TypedDict, total=False):
    """Everything that a line may hold beside time, level and event."""

    request_id: str
    trace_id: str | None
    door: str
    kind: str
    model: str
    engine: str
    node_class: str
    route: str
    profile: str
    url: str
    status: str
    code: str
    key: str
    tenant: str
    by: str
    version: str
    signal: str
    pid: int
    count: int
    ttft_ms: float | None
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    error: str
    frames: list[str]


_bound: ContextVar[Fields] = ContextVar("megacity_log_fields", default=Fields())  # noqa: B039 - never changed in place


def setup(form: Literal["json", "text"] | None = None, level: int = logging.INFO) -> None:
    """Write to stderr, as text on a terminal and as JSON elsewhere; `MEGACITY_LOG=json|text` decides otherwise."""
    form = form or ("text" if _wants_text() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Text() if form == "text" else _Json())
    # asyncio reports forgotten exceptions with their messages, so its lines are held to the same rule.
    for logger in (LOGGER, logging.getLogger("asyncio")):
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)


def bind(**fields: Unpack[Fields]) -> None:
    """Say these fields on every later line of this task and of the tasks that it starts."""
    _bound.set({**_bound.get(), **fields})


def bound() -> Fields:
    return _bound.get()


def event(name: str, /, **fields: Unpack[Fields]) -> None:
    """Write a line; `name` is a constant of the code, like `request` or `engine_loaded`."""
    _write(logging.INFO, name, fields)


def fault(name: str, error: BaseException, /, **fields: Unpack[Fields]) -> None:
    """Write a line about something that should not have happened."""
    _write(logging.ERROR, name, {**fields, **described(error)})


def described(error: BaseException) -> Fields:
    """What may be said of an exception: its type and where it was, without any value."""
    stack = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    frames = [f"{'/'.join(PurePath(f.filename).parts[-2:])}:{f.lineno} {f.name}" for f in stack]
    return {"error": type(error).__qualname__, "frames": frames}


def trace_id(traceparent: str | None) -> str | None:
    """The trace id of a well-formed W3C `traceparent`, else `None`."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None


def _write(level: int, name: str, fields: Mapping[str, Any]) -> None:
    if LOGGER.isEnabledFor(level):
        record = logging.LogRecord(LOGGER.name, level, "", 0, name, None, None)  # who called is in the name
        vars(record).update(event=name, fields={**_bound.get(), **fields})
        LOGGER.handle(record)


def _wants_text() -> bool:
    return os.environ.get("MEGACITY_LOG", "text" if sys.stderr.isatty() else "json") == "text"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    given: dict[str, Any] = getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1]:
        given = {**given, **described(record.exc_info[1])}
    known = {name: given[name] for name in Fields.__annotations__ if given.get(name) is not None}
    return {name: v[:LONGEST] if isinstance(v, str) else v for name, v in known.items()}


def _event(record: logging.LogRecord) -> str:
    """Our own event, or of another library's line only who said it."""
    return getattr(record, "event", record.name)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"ts": stamp, "level": record.levelname.lower(), "event": _event(record), **_fields(record)}
        return orjson.dumps(line).decode()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        pairs = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in _fields(record).items()]
        return " ".join([clock, record.levelname.lower(), _event(record), *pairs])
