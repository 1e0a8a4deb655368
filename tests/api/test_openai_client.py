"""The real `openai` package as the caller."""

import asyncio

import openai
import pytest
from openai import AsyncOpenAI

from serve_app.policies.limits import Limits
from serve_app.types import Completion, Kind, Priority, Sampling
from tests.api.stub import Stub


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}]


async def test_lists_models(client: AsyncOpenAI) -> None:
    models = [model async for model in client.models.list()]
    assert [m.id for m in models] == ["auto", "tutor", "org/big", "gpt-4o", "campus"]
    assert models[2].owned_by == "org"
    assert models[2].created > 0


async def test_gets_a_model_whose_id_has_a_slash(client: AsyncOpenAI) -> None:
    assert (await client.models.retrieve("org/big")).id == "org/big"


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


async def test_a_chat_in_one_piece(client: AsyncOpenAI, stub: Stub) -> None:
    answer = await client.chat.completions.create(model="auto", messages=said("hi"), n=2)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "tutor"
    assert answer.system_fingerprint == "3"
    assert answer.service_tier == "default"
    assert [c.index for c in answer.choices] == [0, 1]
    assert all(c.message.content == "안녕!" and c.finish_reason == "stop" for c in answer.choices)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 3, 8)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert stub.jobs[0].kind is Kind.CHAT


async def test_a_chat_as_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="auto", messages=said("hi"), n=2, stream=True)
    chunks = [chunk async for chunk in stream]
    assert [c.choices[0].delta.role for c in chunks[:2]] == ["assistant", "assistant"]
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["안녕!", "안녕!"]
    assert [(c.choices[0].index, c.choices[0].finish_reason) for c in chunks[-2:]] == [(0, "stop"), (1, "stop")]
    assert {c.model for c in chunks} == {"tutor"}
    assert len({c.id for c in chunks}) == 1


async def test_usage_comes_last_if_asked_for(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="auto", messages=said("hi"), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.total_tokens == 8


async def test_completions_of_several_prompts_with_echo(client: AsyncOpenAI, stub: Stub) -> None:
    answer = await client.completions.create(model="tutor", prompt=["one", "two"], n=2, echo=True)
    assert answer.object == "text_completion"
    assert [(c.index, c.text) for c in answer.choices] == [
        (0, "one안녕!"),
        (1, "one안녕!"),
        (2, "two안녕!"),
        (3, "two안녕!"),
    ]
    assert answer.usage.total_tokens == 16
    assert [job.kind for job in stub.jobs] == [Kind.COMPLETION] * 2
    assert len({job.id for job in stub.jobs}) == 2


async def test_completions_as_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.completions.create(model="tutor", prompt=["one", "two"], echo=True, stream=True)
    texts = ["", ""]
    finished = []
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
        finished += [chunk.choices[0].index] * (chunk.choices[0].finish_reason == "stop")
    assert texts == ["one안녕!", "two안녕!"]
    assert finished == [0, 1]


@pytest.mark.parametrize(
    ("script", "expected", "status", "code"),
    [
        ("bad", openai.BadRequestError, 400, "context_length_exceeded"),
        ("full", openai.RateLimitError, 429, "queue_full"),
        ("down", openai.InternalServerError, 503, "unavailable"),
        ("broken", openai.InternalServerError, 500, "engine_failed"),
        ("bug", openai.InternalServerError, 500, "internal_error"),
        ("cancelled", openai.InternalServerError, 500, "engine_failed"),
        ("nothing|unfinished", openai.InternalServerError, 500, "engine_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_before_the_first_token(
    client: AsyncOpenAI, script: str, expected: type[openai.APIStatusError], status: int, code: str, stream: bool
) -> None:
    with pytest.raises(expected) as caught:
        await client.chat.completions.create(model="auto", messages=said(script), stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


async def test_an_unknown_model_in_a_chat(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=said("hi"))
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("script", "code"),
    [(s, "engine_failed") for s in ("broken", "unfinished", "cancelled")] + [("bug", "internal_error")],
)
async def test_an_error_after_the_first_token_is_raised_by_the_client(
    client: AsyncOpenAI, script: str, code: str
) -> None:
    stream = await client.chat.completions.create(model="auto", messages=said("|" + script), stream=True)
    finishes = []
    with pytest.raises(openai.APIError) as caught:
        [finishes.append(chunk.choices[0].finish_reason) async for chunk in stream]
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert finishes == [None] * 4


@pytest.mark.parametrize("stub", [Stub(Limits(heartbeat_s=0.02))])
async def test_heartbeats_do_not_disturb_the_client(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="auto", messages=said("|slow"), stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "안녕!"


async def test_the_synchronous_client(url: str) -> None:
    def ask() -> tuple[str, list[str]]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-local-standard", max_retries=0) as client:
            whole = client.chat.completions.create(model="auto", messages=said("hi"))
            stream = client.chat.completions.create(model="auto", messages=said("hi"), stream=True)
            return whole.choices[0].message.content, [c.choices[0].delta.content or "" for c in stream]

    whole, pieces = await asyncio.to_thread(ask)
    assert whole == "".join(pieces) == "안녕!"


async def test_what_becomes_of_a_request(client: AsyncOpenAI, stub: Stub) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    parts = [{"type": "text", "text": "call|json"}, picture]
    await client.chat.completions.create(
        model="tutor",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "content": "42", "tool_call_id": "t"},
            {"role": "user", "content": parts},
        ],
        max_tokens=7,
        max_completion_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=-3,
        stop="END",
        user="old",
        safety_identifier="new",
        service_tier="flex",
        metadata={"zone": "campus", "task": "quiz", "locale": "ko-KR", "template": "none", "mine": "ignored"},
        tools=[{"type": "function", "function": {"name": "look_up"}}],
        response_format={"type": "json_object"},
        logprobs=True,
        presence_penalty=0.5,
        extra_body={"something": "new"},
        extra_headers={"Host": "Campus.Example:80", "X-Request-Id": "abc-1"},
    )
    job = stub.jobs[0]
    assert job.id == "abc-1"
    assert [(m.role, m.content) for m in job.payload.messages] == [
        ("developer", "a\nb"),
        ("assistant", ""),
        ("tool", "42"),
        ("user", "call|json"),
    ]
    sampling = job.payload.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.stop, sampling.n) == (
        9, 0, 0.5, -3, ("END",), 1,
    )  # fmt: skip
    assert job.caller.user == "new"
    assert job.constraints.priority is Priority.BATCH
    wish = job.wish
    assert (wish.model, wish.zone, wish.task, wish.locale, wish.template) == (
        "tutor",
        "campus",
        "quiz",
        "ko-KR",
        "none",
    )
    assert wish.host == "campus.example:80"
    assert wish.needs == {"tools", "json", "logprobs", "penalties", "vision"}


async def test_what_is_neutral_needs_nothing(client: AsyncOpenAI, stub: Stub) -> None:
    await client.chat.completions.create(
        model="auto",
        messages=said("hi"),
        presence_penalty=0,
        logit_bias={"50256": 0},
        tools=[],
        tool_choice="auto",
        response_format={"type": "text"},
        service_tier="priority",
    )
    assert stub.jobs[0].wish.needs == frozenset()
    assert stub.jobs[0].constraints.priority is Priority.STANDARD


async def test_what_a_completion_needs(client: AsyncOpenAI, stub: Stub) -> None:
    await client.completions.create(model="auto", prompt="x", suffix="y", logprobs=1, logit_bias={"1": 5})
    assert stub.jobs[0].payload == Completion("x", Sampling(logit_bias=((1, 5.0),)))
    assert stub.jobs[0].wish.needs == {"suffix", "logprobs", "penalties"}
