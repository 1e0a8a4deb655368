"""Lines hold known fields and nothing that a caller wrote."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator

import pytest

from serve_app import logs


@contextlib.contextmanager
def captured(form: str) -> Iterator[io.StringIO]:
    sink = io.StringIO()
    with contextlib.redirect_stderr(sink):
        logs.setup(form)
    try:
        yield sink
    finally:
        for name in ("megacity", "asyncio"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True


def test_only_known_fields_are_written() -> None:
    with captured("json") as sink:
        logs.event("started", model="nano", prompt="CANARY", filename="CANARY.wav")
    line = json.loads(sink.getvalue())
    assert line.keys() == {"ts", "level", "event", "model"}
    assert line["ts"].endswith("Z")


def test_an_exception_is_told_by_type_and_place() -> None:
    with captured("json") as sink:
        try:
            int("CANARY")
        except ValueError as error:
            logs.fault("engine_failed", error, code="engine_failed")
    line = json.loads(sink.getvalue())
    assert (line["level"], line["error"], line["code"]) == ("error", "ValueError", "engine_failed")
    assert line["frames"][0].startswith("sight/test_logs.py:")
    assert "CANARY" not in sink.getvalue()


def test_a_message_from_elsewhere_is_withheld() -> None:
    with captured("json") as sink:
        logging.getLogger("megacity.other").warning("said %s", "CANARY")
        logging.getLogger("megacity").error("CANARY", exc_info=KeyError("CANARY"))
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["megacity.other", "megacity"]
    assert lines[1]["error"] == "KeyError"
    assert "CANARY" not in sink.getvalue()


async def test_what_asyncio_reports_is_withheld_too() -> None:
    with captured("json") as sink:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "CANARY", "exception": RuntimeError("CANARY in a forgotten task")}
        )
    assert json.loads(sink.getvalue())["event"] == "asyncio"
    assert "CANARY" not in sink.getvalue()


async def test_bound_fields_follow_a_request_and_its_tasks_only() -> None:
    async def request(number: str) -> None:
        logs.bind(request_id=number)
        await asyncio.sleep(0)
        await asyncio.create_task(inner())

    async def inner() -> None:
        logs.event("inner")

    with captured("json") as sink:
        await asyncio.gather(asyncio.create_task(request("a")), asyncio.create_task(request("b")))
        logs.event("outer")
    lines = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [line.get("request_id") for line in lines] == ["a", "b", None]


def test_text_stays_on_one_line() -> None:
    with captured("text") as sink:
        logs.event("started", model="na\nno", duration_ms=1.5)
    assert sink.getvalue().endswith('info started model="na\\nno" duration_ms=1.5\n')


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
        ("나의 이름", None),
        (None, None),
    ],
)
def test_trace_ids(header: str | None, found: str | None) -> None:
    assert logs.trace_id(header) == found
