"""A remote engine against a real server that breaks in every way."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.remote import Remote, RemoteChat, RemoteEmbeddings
from serve_app.errors import BadRequest, ConfigError, EngineFailed, MegaCityError, Refused, Unavailable
from serve_app.types import (
    Artifact,
    Chat,
    Completion,
    Delta,
    Done,
    Embedding,
    Event,
    Job,
    Kind,
    Media,
    Message,
    Payload,
    ResponseFormat,
    Sampling,
    Tool,
    ToolCall,
    ToolDelta,
)
from tests.remote.upstream import USAGES, WORDS, Upstream, running

SILENT = ("silent", "slow")
HELLO = Chat((Message("user", "hello"),))
TOOLS = (Tool("add", "Add.", '{"type": "object", "properties": {"a": {}, "b": {}}}', strict=True),)
Making = Callable[..., Any]


def patience(model: str) -> dict[str, float]:
    """Little of it where the upstream will say nothing, and much where a busy machine may only be slow to."""
    silent, before = model.startswith(SILENT), model.endswith("before")
    return {"first_token_s": 0.5 if silent and before else 20, "between_tokens_s": 0.6 if silent else 20}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running() as server:
        yield server


@pytest.fixture
async def made(upstream: Upstream) -> AsyncIterator[Making]:
    """Makes a loaded engine for a model of the upstream."""
    async with AsyncExitStack() as stack:

        async def make(model: str = "steady", **options: Any) -> Remote:
            given = {"base_url": upstream.url, "model": model, **patience(model), **options}
            engine = Remote(Remote.Options.model_validate(given))
            await engine.load()
            stack.push_async_callback(engine.close)
            return engine

        yield make


async def events(engine: Remote, payload: Payload = HELLO) -> list[Event]:
    kind = Kind.CHAT if isinstance(payload, Chat) else Kind.COMPLETION
    return [event async for event in engine.run(Job("job", kind, payload))]


async def failing(engine: Remote, payload: Payload = HELLO) -> tuple[list[Event], MegaCityError]:
    """What came, and what ended it."""
    came: list[Event] = []
    try:
        async for event in engine.run(Job("job", Kind.CHAT, payload)):
            came.append(event)
    except MegaCityError as error:
        return came, error
    raise AssertionError("it did not fail")


async def test_what_is_asked_for_is_what_is_sent(made: Making, upstream: Upstream, monkeypatch: Any) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-upstream")
    engine = await made(api_key_env="SOME_KEY", headers={"x-title": "megacity"})
    messages = (
        Message("developer", "Be kind."),
        Message("user", "1 + 2?", name="mina"),
        Message("assistant", "", (ToolCall("call_1", "add", '{"a": 1, "b": 2}'),)),
        Message("tool", "3", tool_call_id="call_1"),
    )
    form = ResponseFormat("json_schema", '{"type": "object"}', "sum", True)
    wish = Sampling(9, 0.5, 0.9, 3, ("END",), 2, 0.25, -0.5, ((17, 5.0),))
    await events(engine, Chat(messages, wish, TOOLS, "required", False, form))
    (asked,) = upstream.asked
    assert asked == {
        "model": "steady", "stream": True, "stream_options": {"include_usage": True},
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["END"], "n": 2,
        "frequency_penalty": 0.25, "presence_penalty": -0.5, "logit_bias": {"17": 5.0},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "1 + 2?", "name": "mina"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
            ]},
            {"role": "tool", "content": "3", "tool_call_id": "call_1"},
        ],
        "tools": [{"type": "function", "function": {
            "name": "add", "description": "Add.", "strict": True,
            "parameters": {"type": "object", "properties": {"a": {}, "b": {}}},
        }}],
        "tool_choice": "required", "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {
            "name": "sum", "schema": {"type": "object"}, "strict": True,
        }},
    }  # fmt: skip
    head = upstream.heads[0].lower()
    assert "authorization: bearer sk-upstream" in head
    assert "x-title: megacity" in head


async def test_a_call_comes_in_pieces(made: Making) -> None:
    *pieces, done = await events(await made(), Chat(HELLO.messages, tools=TOOLS))
    assert pieces[0] == ToolDelta("", 0, 0, "call_7", "add")
    assert "".join(piece.arguments for piece in pieces if isinstance(piece, ToolDelta)) == '{"a": 1, "b": 2}'
    assert isinstance(done, Done)
    assert done.finish == ("tool_calls",)


async def test_usage_is_the_upstreams_own(made: Making) -> None:
    done = (await events(await made()))[-1]
    assert isinstance(done, Done)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.estimated) == (5, WORDS, False)


@pytest.mark.parametrize("wrong", USAGES)
async def test_usage_that_cannot_be_is_estimated_and_says_so(made: Making, wrong: str) -> None:
    done = (await events(await made(f"{wrong}-usage", max_tokens=100)))[-1]
    assert isinstance(done, Done)
    assert done.estimated
    assert (done.usage.completion_tokens, done.usage.cached_tokens) == (WORDS, 0)
    assert 0 < done.usage.prompt_tokens < 20


async def test_pictures_and_sound_go_as_bytes(made: Making, upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"hi")
    media = (Media(str(file), "", 2, "image/png"), Media(str(file), "", 2, "audio/mpeg"))
    await events(await made(), Chat((Message("user", "what?", media=media),)))
    assert upstream.asked[0]["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
        {"type": "text", "text": "what?"},
    ]
    file.unlink()
    with pytest.raises(Unavailable):
        await events(await made(), Chat((Message("user", "what?", media=media),)))


@pytest.mark.parametrize(
    ("fault", "kind", "code", "wait_s"),
    [
        ("quota", Refused, "backend_quota", 300),
        ("rate", Refused, "backend_refused", 7),
        ("overloaded", Refused, "backend_refused", 3),
        ("key", Refused, "backend_settings", 60),
        ("broken", Unavailable, "unavailable", 5),
        ("quota in stream", Refused, "backend_quota", 300),
        ("told", Unavailable, "unavailable", 5),
        ("reset", Unavailable, "unavailable", 5),
        ("half", Unavailable, "unavailable", 5),
        ("silent", Unavailable, "unavailable", 5),
        ("slow", Unavailable, "unavailable", 5),
        ("cut", EngineFailed, "engine_failed", None),
        ("garbage", EngineFailed, "engine_failed", None),
        ("type", EngineFailed, "engine_failed", None),
        ("endless", EngineFailed, "engine_failed", None),
        ("html", EngineFailed, "engine_failed", None),
        ("bad", BadRequest, "invalid_request", None),
        ("long", BadRequest, "context_length_exceeded", None),
    ],
)
async def test_faults_before_the_first_token(
    made: Making, fault: str, kind: type[MegaCityError], code: str, wait_s: int | None
) -> None:
    started = time.perf_counter()
    came, error = await failing(await made(f"{fault}-before"))
    assert came == []
    assert (type(error), error.code, error.retry_after_s) == (kind, code, wait_s)
    assert "SECRET" not in error.message
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    "fault", ["reset", "half", "silent", "slow", "cut", "garbage", "type", "told", "quota in stream", "endless"]
)
async def test_faults_after_the_first_token_end_the_answer(made: Making, fault: str) -> None:
    came, error = await failing(await made(f"{fault}-after"))
    assert came
    assert all(isinstance(event, Delta) for event in came)
    assert type(error) is EngineFailed
    assert "SECRET" not in error.message


async def test_nobody_listens(made: Making, upstream: Upstream) -> None:
    await upstream.close()
    came, error = await failing(await made())
    assert (came, type(error)) == ([], Unavailable)


async def test_redirects_are_not_followed(made: Making, upstream: Upstream) -> None:
    async with running() as other:
        _, error = await failing(await made(f"{other.url}/chat/completions-redirect"))
        assert type(error) is Refused
        assert not other.asked
    assert len(upstream.asked) == 1


async def test_an_answer_that_says_that_it_is_over_needs_no_last_word(made: Making) -> None:
    done = (await events(await made("undone-")))[-1]
    assert isinstance(done, Done)
    assert done.finish == ("stop",)


async def test_leaving_closes_the_connection(made: Making, upstream: Upstream) -> None:
    run = (await made()).run(Job("job", Kind.CHAT, HELLO))
    await anext(run)
    assert upstream.answering == 1
    await run.aclose()
    async with asyncio.timeout(1):
        while upstream.answering:
            await asyncio.sleep(0.01)


async def test_a_connection_serves_one_answer_after_another(made: Making, upstream: Upstream) -> None:
    engine = await made()
    for _ in range(5):
        await events(engine)
    assert (len(upstream.asked), upstream.connections) == (5, 1)


async def test_a_slow_reader_is_no_silence_of_the_upstream(made: Making) -> None:
    engine = await made(between_tokens_s=0.5)
    count = 0
    async for event in engine.run(Job("job", Kind.CHAT, HELLO)):
        count += isinstance(event, Delta)
        if count in (1, 2):
            await asyncio.sleep(0.7)
    assert count == WORDS


async def test_the_caller_may_leave_while_the_upstream_is_waited_for(made: Making, upstream: Upstream) -> None:
    engine = await made("silent-after", between_tokens_s=30)
    with pytest.raises(TimeoutError):  # the caller's own, not one of the engine's errors
        async with asyncio.timeout(0.2):
            await events(engine)
    async with asyncio.timeout(1):
        while upstream.answering:
            await asyncio.sleep(0.01)


def without_digits(text: str) -> str:
    return "".join("#" if letter.isdigit() else letter for letter in text)


def careless(text: str) -> str:
    raise KeyError(text)


async def test_every_text_is_masked_before_it_leaves(made: Making, upstream: Upstream, tmp_path: Path) -> None:
    engine = await made(mask=f"{__name__}:without_digits")
    call = ToolCall("call_x", "add", '{"phone": "010-1234"}')
    await events(engine, Chat((Message("user", "010-1234"), Message("assistant", "", (call,)))))
    await events(engine, Completion("010-1234"))
    assert not any("1234" in str(asked) for asked in upstream.asked)
    assert upstream.asked[1]["prompt"] == "###-####"
    media = (Media(str(tmp_path / "x"), "", 2, "image/png"),)
    with pytest.raises(BadRequest):
        await events(engine, Chat((Message("user", "what?", media=media),)))


async def test_a_mask_that_fails_lets_nothing_out(made: Making, upstream: Upstream) -> None:
    _, error = await failing(await made(mask=f"{__name__}:careless"), Chat((Message("user", "SECRET"),)))
    assert isinstance(error, EngineFailed)
    assert "SECRET" not in error.message
    assert not upstream.asked


async def test_what_a_profile_lacks_is_named_at_the_start(made: Making) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        await made(api_key_env="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match="module:function"):
        await made(mask="nowhere:nothing")


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "api.example.com/v1"},
        {"base_url": "ftp://api.example.com/v1"},
        {"base_url": "http://api.example.com/v1"},
        {"base_url": "http://8.8.8.8/v1"},
        {"base_url": "https://user:password@api.example.com/v1"},
        {"base_url": "https://api.example.com/v1?key=x"},
        {"base_url": "https://api.example.com:99999/v1"},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"x-api-key": "x"}},
        {"headers": {"x-two": "a\r\nb: c"}},
        {"api_key_env": "sk-a-key"},
        {"first_token_s": 0},
        {"unknown": 1},
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any]) -> None:
    good = {"base_url": "https://api.example.com/v1", "model": "x"}
    assert Remote.Options.model_validate(good)
    assert Remote.Options.model_validate({"base_url": "http://10.0.0.5:8000/v1", "model": "x"})
    assert Remote.Options.model_validate({"plain_http": True, "base_url": "http://vllm:8000/v1", "model": "x"})
    with pytest.raises(ValidationError):
        Remote.Options.model_validate(good | wrong)


async def embedded(upstream: Upstream, model: str = "steady", **more: Any) -> list[Event]:
    given = {"base_url": upstream.url, "model": model}
    engine = RemoteEmbeddings(RemoteEmbeddings.Options.model_validate(given))
    await engine.load()
    try:
        return [event async for event in engine.run(Job("job", Kind.EMBEDDING, Embedding(("a", "bcd"), **more)))]
    finally:
        await engine.close()


async def test_embeddings_come_row_by_row(upstream: Upstream) -> None:
    artifact, done = await embedded(upstream, dimensions=2)
    assert isinstance(artifact, Artifact)
    assert struct.unpack("<4f", artifact.data) == (1.0, 0.5, 3.0, 0.5)
    assert isinstance(done, Done)
    assert (done.usage.prompt_tokens, done.estimated) == (7, False)
    assert upstream.asked == [{"model": "steady", "input": ["a", "bcd"], "dimensions": 2, "encoding_format": "float"}]


@pytest.mark.parametrize("wrong", ["short", "odd", "words"])
async def test_embeddings_that_are_none(upstream: Upstream, wrong: str) -> None:
    with pytest.raises(EngineFailed) as failed:
        await embedded(upstream, f"{wrong}-")
    assert "SECRET" not in failed.value.message


def test_where_prompts_go() -> None:
    options = Remote.Options(base_url="https://api.example.com/v1", model="x", pool="openai", region="us")
    assert RemoteChat.whereabouts(options) == ("openai", "us")
    assert RemoteChat.kinds == {Kind.CHAT}
