"""The API with vLLM behind it, from OpenAI's own client to the engine's processes and back."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
import pytest
from jsonschema import Draft202012Validator

from tests.cluster.conftest import Service, _spawn, metric
from tests.vllm.test_answers import GRADE, MARK

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

PROFILE = Path(__file__).parent / "service.yaml"
LOAD_S = 1200.0


@contextmanager
def running_service(profile: Path, folder: Path) -> Iterator[Service]:
    service = _spawn(profile, (), folder)
    try:
        within(LOAD_S, lambda: "ready after" in service.output.read_text() or service.process.poll() is not None)
        assert service.process.poll() is None, service.output.read_text()[-2000:]
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(PROFILE, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="sk-local-standard", max_retries=0, timeout=60)


def within(seconds: float, holds: object) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def question(text: str = "2 + 3 = ?") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_stream_and_a_whole_answer_say_the_same(client: openai.OpenAI) -> None:
    asked = {"model": "nano-tutor", "messages": question(), "temperature": 0}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert said.endswith("5")
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0


def test_json_keeps_its_schema(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "grade", "schema": GRADE, "strict": True}}
    answer = client.chat.completions.create(model="nano-tutor", messages=question(), response_format=form)  # type: ignore[call-overload]
    Draft202012Validator(GRADE).validate(json.loads(answer.choices[0].message.content))


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_keeps_its_schema(client: openai.OpenAI, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "mark", "parameters": MARK}}
    answer = client.chat.completions.create(  # type: ignore[call-overload]
        model="nano-tutor",
        messages=question(),
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "mark"}},
        parallel_tool_calls=False,
        max_tokens=400,
        stream=stream,
    )
    if stream:
        pieces = [c for chunk in answer if chunk.choices for c in chunk.choices[0].delta.tool_calls or []]
        arguments = "".join(piece.function.arguments for piece in pieces)
    else:
        assert answer.choices[0].finish_reason == "tool_calls"
        arguments = answer.choices[0].message.tool_calls[0].function.arguments
    Draft202012Validator(MARK).validate(json.loads(arguments))


def test_biases_and_penalties_change_the_answer(client: openai.OpenAI) -> None:
    asked = {"model": "nano-tutor", "messages": question("87 × 96 = ?"), "temperature": 0, "max_tokens": 120}
    plain = client.chat.completions.create(**asked).choices[0].message.content  # type: ignore[call-overload]
    for change in ({"frequency_penalty": 2.0, "presence_penalty": 2.0}, {"logit_bias": {"2": 100}}):
        assert client.chat.completions.create(**asked, **change).choices[0].message.content != plain  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**asked, logit_bias={"999999": 5})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "field", ["chat_template", "chat_template_kwargs", "mm_processor_kwargs", "cache_salt", "priority"]
)
def test_what_reaches_into_vllm_elsewhere_has_no_effect(client: openai.OpenAI, field: str) -> None:
    """Fields that OpenAI's API doesn't have are not passed on, or refused."""
    value: object = {"kwargs": "{{ 1 }}"} if field.endswith("kwargs") else "{{ messages }}"
    try:
        answer = client.chat.completions.create(  # type: ignore[call-overload]
            model="nano-tutor", messages=question(), temperature=0, extra_body={field: value}
        )
    except openai.BadRequestError:
        return
    assert answer.choices[0].message.content.endswith("5")


def test_vllms_own_state_is_beside_ours(service: Service, client: openai.OpenAI) -> None:
    within(10, lambda: metric(service.url, "megacity_engine_state", engine="tutor", what="kv_cache_tokens") > 1000)
    said = "vllm:generation_tokens_total"
    before = metric(service.url, said)
    client.chat.completions.create(model="nano-tutor", messages=question())  # type: ignore[arg-type]
    within(10, lambda: metric(service.url, said) > before)


def test_a_lost_core_is_told_and_replaced(service: Service, client: openai.OpenAI) -> None:
    """Last in this file. What was in flight ends with an error; a new replica answers when it has loaded."""
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model="nano-tutor", messages=question(), temperature=2, seed=5, max_tokens=450, stream=True
    )
    next(stream)
    core(service).kill()
    with pytest.raises(openai.APIError):
        list(stream)
    within(LOAD_S, lambda: answers(client))


def core(service: Service) -> psutil.Process:
    family = psutil.Process(service.process.pid).children(recursive=True)
    return next(process for process in family if "EngineCore" in process.name())


def answers(client: openai.OpenAI) -> bool:
    try:
        answer = client.chat.completions.create(model="nano-tutor", messages=question(), temperature=0)  # type: ignore[arg-type]
    except openai.InternalServerError:
        return False
    return bool(answer.choices[0].message.content)
