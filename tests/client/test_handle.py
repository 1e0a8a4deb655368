"""The way over a deployment handle, with a stand-in that answers as Serve's handle does."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

from serve_app import errors
from serve_app.client import MegaCity
from serve_app.client.handle import Handle as HandleWay
from serve_app.types import Artifact, Decision, Delta, Done, Embedding, Job, Retrieval, Routed, Usage

DECISION = Decision("llm", "nano", "2", "onprem", reasons=("task=quiz",))
ANSWER: list[Any] = [
    [Routed(DECISION)],
    [Delta("four"), Delta("teen", tokens=2)],
    [Done(Usage(3, 3), ("length",))],
]


class Batches:
    def __init__(self, script: list[Any]) -> None:
        self.script = script
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[list[Any]]:
        for batch in self.script:
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """`options(method_name=…).remote(…)`, as far as the client uses it."""

    def __init__(self, script: list[Any]) -> None:
        self.batches = Batches(script)
        self.jobs: list[Job] = []
        self.method = ""

    def options(self, method_name: str, stream: bool = False) -> "Handle":
        self.method = method_name
        assert stream is (method_name == "run")
        return self

    def remote(self, *jobs: Job) -> Any:
        self.jobs.extend(jobs)
        return self.batches if self.method == "run" else self.value()

    async def value(self) -> Any:
        (value,) = self.batches.script
        if isinstance(value, BaseException):
            raise value
        return value


def city_over(*script: Any) -> tuple[MegaCity, Handle]:
    city, handle = MegaCity.__new__(MegaCity), Handle(list(script))
    city._way = HandleWay(handle)  # what `from_app` does with the handle of a real application
    return city, handle


async def test_chat_and_stream() -> None:
    city, handle = city_over(*ANSWER)
    answer = await city.chat("7 + 7", zone="campus", top_p=0.5)
    assert (answer.text, answer.model, answer.version, answer.finish_reason) == ("fourteen", "nano", "2", "length")
    assert answer.route == "task=quiz -> nano"
    assert answer.usage == Usage(3, 3)
    assert handle.jobs[0].wish.zone == "campus"
    assert [piece async for piece in city.stream("7 + 7")] == ["four", "teen"]
    assert handle.batches.cancelled


async def test_an_error_in_a_batch_is_raised_as_itself() -> None:
    full = errors.QueueFull("full", retry_after_s=7)
    city, _ = city_over(ANSWER[0], [Delta("four"), full])
    stream = city.stream("7 + 7")
    assert await anext(stream) == "four"
    with pytest.raises(errors.QueueFull) as caught:
        await anext(stream)
    assert caught.value is full


async def test_leaving_cancels_the_run() -> None:
    city, handle = city_over(*ANSWER)
    async with city.stream("7 + 7") as stream:
        await anext(stream)
        assert not handle.batches.cancelled
    assert handle.batches.cancelled


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), errors.QueueFull),
        (DeploymentUnavailableError.__new__(DeploymentUnavailableError), errors.Unavailable),
        (RayTaskError("run", "a stack trace", ValueError("secret")), errors.EngineFailed),
        (RequestCancelledError("req_1"), asyncio.CancelledError),
    ],
)
async def test_what_ray_raises_has_a_name_of_ours(raised: Exception, kind: type[BaseException]) -> None:
    city, _ = city_over(ANSWER[0], raised)
    with pytest.raises(kind) as caught:
        await city.chat("7 + 7")
    assert "secret" not in str(caught.value)


async def test_other_engines_are_asked_by_the_same_methods() -> None:
    vectors = [
        Artifact("embeddings", "application/octet-stream", array("f", half).tobytes()) for half in ([1, 0], [0, 1])
    ]
    city, handle = city_over([Routed(DECISION), vectors[1]], [Routed(DECISION), *vectors], [Done()])  # it started anew
    assert await city.embed(["a", "b"], dimensions=2) == [[1, 0], [0, 1]]
    assert handle.jobs[0].wish.whole
    assert handle.jobs[0].payload == Embedding(("a", "b"), 2)
    cited = Artifact("citations", "application/json", b'{"found": false, "citations": []}')
    city, handle = city_over([Routed(DECISION), cited, Delta("No"), Delta(" idea. ")], [Done(Usage(cost_nano_usd=5))])
    answer = await city.ask("who?", collection="mine")
    assert (answer.text, answer.found, answer.source.model, answer.source.cost_usd) == ("No idea.", False, "nano", 5e-9)
    assert handle.jobs[0].payload == Retrieval("5:local:mine", "who?")  # as the doors name a tenant's collection


async def test_an_answer_that_stops_early_is_none() -> None:
    city, handle = city_over([Routed(DECISION), Delta("half")])
    with pytest.raises(errors.EngineFailed):
        await city.ask("who?")
    assert handle.batches.cancelled


async def test_route_and_models() -> None:
    city, handle = city_over(DECISION)
    assert await city.route("7 + 7", model="nano") is DECISION
    assert (handle.method, handle.jobs[0].wish.model) == ("decide", "nano")
    city, handle = city_over(["nano"])
    assert await city.models() == ["nano"]


async def test_a_decision_that_is_refused() -> None:
    refused = errors.ModelNotFound("no such model", param="model")
    city, _ = city_over(RayTaskError("decide", "a stack trace", refused).as_instanceof_cause())
    with pytest.raises(errors.ModelNotFound) as caught:
        await city.route("7 + 7", model="nobody")
    assert caught.value is refused
