"""The typed client against the real HTTP door."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from serve_app import errors
from serve_app.api import http
from serve_app.client import MegaCity, SyncMegaCity
from serve_app.types import Message, Priority, Usage
from tests.api.stub import Stub
from tests.client.conftest import listening


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
async def url(stub: Stub) -> AsyncIterator[str]:
    async with listening(http.build(stub.service())) as address:
        yield address


@pytest.fixture
async def city(url: str) -> AsyncIterator[MegaCity]:
    async with MegaCity(url, "sk-local-standard", timeout_s=5) as client:
        yield client


async def test_chat(city: MegaCity, stub: Stub) -> None:
    answer = await city.chat("hi", task="quiz", max_tokens=9, temperature=0.0, stop=["\n"], seed=3, user="u-1")
    assert (answer.text, answer.model, answer.version, answer.finish_reason) == ("안녕!", "tutor", "3", "stop")
    assert answer.usage == Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2, cost_nano_usd=120)
    assert "quiz" in answer.route
    (job,) = stub.jobs
    assert job.id == answer.request_id
    assert (job.wish.task, job.caller.user) == ("quiz", "u-1")
    sampling = job.payload.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.stop, sampling.seed) == (9, 0.0, ("\n",), 3)


async def test_what_is_left_out_is_left_to_the_service(city: MegaCity, stub: Stub) -> None:
    await city.chat([{"role": "system", "content": "Be kind."}, Message("user", "hi")])
    (job,) = stub.jobs
    assert [message.role for message in job.payload.messages] == ["system", "user"]
    assert (job.wish.model, job.wish.zone, job.payload.sampling.max_tokens, job.payload.sampling.stop) == (
        "auto",
        None,
        None,
        (),
    )


async def test_stream_gives_the_answer_at_its_end(city: MegaCity) -> None:
    stream = city.stream("hi|slow")
    with pytest.raises(RuntimeError, match="not complete"):
        _ = stream.answer
    assert [piece async for piece in stream] == ["안", "녕", "!"]
    assert stream.answer.text == "안녕!"


async def test_leaving_a_stream_stops_the_engine(city: MegaCity, stub: Stub) -> None:
    async with city.stream("hi|hang") as stream:
        assert await anext(stream) == "안"
        assert stub.running == 1
    await asyncio.wait_for(stub.closed.wait(), 2)


async def test_cancelling_a_chat_stops_the_engine(city: MegaCity, stub: Stub) -> None:
    task = asyncio.create_task(city.chat("hi|hang"))
    while not stub.produced:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(stub.closed.wait(), 2)


@pytest.mark.parametrize(
    ("script", "kind", "code"),
    [
        ("full", errors.QueueFull, "queue_full"),
        ("down", errors.Unavailable, "unavailable"),
        ("bad", errors.BadRequest, "context_length_exceeded"),
        ("broken", errors.EngineFailed, "engine_failed"),
        ("bug", errors.MegaCityError, "internal_error"),
    ],
)
@pytest.mark.parametrize("after", ["", "hi|"])
async def test_errors_come_back_as_themselves(
    city: MegaCity, script: str, kind: type[errors.MegaCityError], code: str, after: str
) -> None:
    with pytest.raises(errors.MegaCityError) as caught:
        await city.chat(after + script)
    if code != "context_length_exceeded" or not after:  # a code of its own says its class only beside a status
        assert type(caught.value) is kind
        assert caught.value.status == kind.status
    assert caught.value.code == code
    assert "secret" not in caught.value.message


async def test_details_of_an_error(city: MegaCity) -> None:
    with pytest.raises(errors.QueueFull) as full:
        await city.chat("full")
    assert full.value.retry_after_s == 7
    with pytest.raises(errors.BadRequest) as bad:
        await city.chat("hi", temperature=9.0)
    assert bad.value.param == "temperature"
    with pytest.raises(errors.ModelNotFound) as unknown:
        await city.chat("hi", model="nobody")
    assert unknown.value.status == 404


async def test_route(city: MegaCity, stub: Stub) -> None:
    decision = await city.route("hi", zone="campus")
    assert (decision.engine, decision.model, decision.version) == ("llm", "tutor", "3")
    assert decision.priority is Priority.STANDARD
    assert isinstance(decision.reasons, tuple)
    assert not stub.jobs


async def test_models(city: MegaCity) -> None:
    assert {"tutor", "org/big"} <= set(await city.models())


async def test_an_option_that_there_is_not_is_a_type_error(city: MegaCity) -> None:
    with pytest.raises(TypeError, match="temprature"):
        await city.chat("hi", temprature=1)  # type: ignore[call-arg]


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with MegaCity(f"http://name:CANARY@127.0.0.1:{port}") as city:
            with pytest.raises(errors.Unavailable, match=f"127.0.0.1:{port}.*megacity up") as caught:
                await city.chat("hi")
    assert "CANARY" not in caught.value.message


async def test_silence_is_not_waited_out_for_ever(url: str) -> None:
    async with MegaCity(url, timeout_s=0.2) as city:
        with pytest.raises(errors.DeadlineExceeded, match=r"0\.2 s"):
            await city.chat("hang")


async def test_plain_scripts(url: str) -> None:
    def script() -> tuple[str, list[str], str, str, bool]:
        with SyncMegaCity(url) as city:
            text = city.chat("hi").text
            with city.stream("hi|slow") as stream:
                pieces = list(stream)
            with city.stream("hi|hang") as left:
                next(left)
            known = "tutor" in city.models()
            return text, pieces, stream.answer.text, city.route("hi").model, known

    assert await asyncio.to_thread(script) == ("안녕!", ["안", "녕", "!"], "안녕!", "tutor", True)
