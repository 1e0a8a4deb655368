"""Every bound of the table is kept, at the door, on either side of it."""

import asyncio
import math
from typing import Any

import orjson
import pytest

from serve_app.api.server import Doors
from serve_app.policies.access import AccessRules
from serve_app.policies.limits import RANGES, Limits, Range
from tests.cluster.conftest import free_ports
from tests.guard.conftest import House, ask
from tools import limits

OPEN = AccessRules(anonymous=True)
FLOATS = ["temperature", "top_p", "frequency_penalty", "presence_penalty"]
WHOLE = ["seed", "top_logprobs"]
TEXTS = ["model", "user", "safety_identifier"]
COUNTS = {"n": "max_choices", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


def inside(bound: Range) -> list[float]:
    return [bound.least, bound.most]


def outside(bound: Range, step: float) -> list[float]:
    return [bound.least - step, bound.most + step]


def test_the_page_is_the_table() -> None:
    assert limits.PAGE.read_text() == limits.text(), "run `make limits`"


@pytest.mark.parametrize("name", [*FLOATS, *WHOLE])
async def test_numbers(house: House, name: str) -> None:
    bound, step = RANGES[name], 1e-9 if name in FLOATS else 1
    async with house.door(OPEN) as client:
        for value in inside(bound):
            assert (await ask(client, **{name: value})).status_code == 200
        asked = len(house.stub.jobs)
        for wrong in [*outside(bound, step), 1e308, -1e308, "1", True, [], {}]:
            await refused(await ask(client, **{name: wrong}), name)
        for spelled in (b"NaN", b"Infinity", b"1e999", b"9" * 400):
            body = b'{"model":"auto","messages":[{"role":"user","content":"hi"}],"%s":%s}' % (name.encode(), spelled)
            answer = await client.post("/v1/chat/completions", content=body)
            assert answer.status_code == 400
    assert len(house.stub.jobs) == asked


@pytest.mark.parametrize("name", TEXTS)
async def test_texts(house: House, name: str) -> None:
    async with house.door(OPEN) as client:
        longest = int(RANGES[name].most)
        if name != "model":
            assert (await ask(client, **{name: "x" * longest})).status_code == 200
        for wrong in ("", "x" * (longest + 1)):
            await refused(await ask(client, **{name: wrong}), name)


@pytest.mark.parametrize("name", COUNTS)
async def test_counts(house: House, name: str) -> None:
    most = getattr(Limits(), COUNTS[name])
    async with house.door(OPEN) as client:
        assert (await ask(client, **{name: most})).status_code == 200
        for wrong in (0, -1, most + 1, math.nextafter(most, math.inf), 1e308):
            await refused(await ask(client, **{name: wrong}), name)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop": ["x"] * 5}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"logit_bias": {"1": 100.1}}, "logit_bias"),
        ({"metadata": {"zone": "x" * 257}}, "metadata.zone"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, "tools"),
        ({"messages": [{"role": "user", "content": "x"}] * 2001}, "messages"),
    ],
)
async def test_lists_and_tables(house: House, body: dict[str, Any], param: str) -> None:
    async with house.door(OPEN) as client:
        await refused(await ask(client, **body), param)
    assert not house.stub.jobs


async def test_nesting(house: House) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    async with house.door(OPEN) as client:
        answer = await client.post("/v1/chat/completions", content=deep)
    assert answer.status_code == 400


async def test_a_head_without_end_is_cut_off(house: House) -> None:
    port, grpc_port = free_ports(2)
    doors = Doors(house.service(OPEN), ("127.0.0.1", port), ("127.0.0.1", grpc_port))
    await doors.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
    writer.write(b"x" * 66_000)
    answer = await asyncio.wait_for(reader.read(65_536), 5)
    writer.close()
    await doors.close(1)
    assert answer.startswith(b"HTTP/1.1 400")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "malformed_http"


async def refused(answer: Any, param: str) -> None:
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
