"""Tools, answer formats and files in messages, with the real `openai` package as the caller."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from serve_app.types import ResponseFormat, Tool, ToolCall
from tests.api.stub import Stub

PNG = b"\x89PNG\r\n\x1a\n not really"
ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "add", "description": "더하기", "parameters": ADD, "strict": True}},
    {"type": "function", "function": {"name": "look_up"}},
]
CHAT = "/v1/chat/completions"


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def shown(**part: Any) -> Any:
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]


def data_url(kind: str, data: bytes = PNG) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


async def test_a_call_in_one_piece(client: AsyncOpenAI, stub: Stub) -> None:
    answer = await client.chat.completions.create(model="auto", messages=said("call|one"), tools=TOOLS)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert (call.id, call.type, call.function.name) == ("call_1", "function", "add")
    assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
    chat = stub.jobs[0].payload
    assert chat.tools == (Tool("add", "더하기", json.dumps(ADD), True), Tool("look_up"))
    assert (chat.tool_choice, chat.parallel_tool_calls) == ("auto", True)
    assert stub.jobs[0].wish.needs == {"tools"}
    assert "더하기" in chat.texts


async def test_calls_as_a_stream_to_the_letter(raw: httpx.AsyncClient) -> None:
    body = {"model": "auto", "messages": said("call|two"), "tools": TOOLS, "stream": True}
    answer = await raw.post(CHAT, json=body)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Let me see."},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
                }
            ]
        },
        {
            "tool_calls": [
                {"index": 1, "id": "call_2", "type": "function", "function": {"name": "add", "arguments": '{"a": '}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": '3, "b": 4}'}}]},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["tool_calls"]


async def test_the_client_puts_a_stream_together(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="auto", messages=said("call|one"), tools=TOOLS) as stream:
        answer = await stream.get_final_completion()
    message = answer.choices[0].message
    assert message.content is None
    assert message.tool_calls
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls] == [
        ("call_1", "add", {"a": 1, "b": 2})
    ]


@pytest.mark.parametrize(
    ("choice", "names", "mode"),
    [
        ("none", ["add", "look_up"], "none"),
        ("required", ["add", "look_up"], "required"),
        ({"type": "function", "function": {"name": "look_up"}}, ["look_up"], "required"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "add"}}]},
            },
            ["add"],
            "auto",
        ),
    ],
)
async def test_choices(client: AsyncOpenAI, stub: Stub, choice: Any, names: list[str], mode: str) -> None:
    ask = client.chat.completions.create(
        model="auto", messages=said("hi"), tools=TOOLS, tool_choice=choice, parallel_tool_calls=False
    )
    if mode == "required":  # and the scripted model calls nothing
        with pytest.raises(openai.InternalServerError) as caught:
            await ask
        assert caught.value.code == "no_call"
    else:
        await ask
    chat = stub.jobs[0].payload
    assert ([tool.name for tool in chat.tools], chat.tool_choice, chat.parallel_tool_calls) == (names, mode, False)


@pytest.mark.parametrize(("script", "code"), [("bad", "bad_arguments"), ("unknown", "bad_call")])
async def test_calls_that_the_schema_does_not_allow(client: AsyncOpenAI, script: str, code: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="auto", messages=said(f"call|{script}"), tools=TOOLS)
    assert caught.value.code == code
    finished: list[str | None] = []

    async def streamed() -> None:
        stream = await client.chat.completions.create(
            model="auto", messages=said(f"call|{script}"), tools=TOOLS, stream=True
        )
        async for chunk in stream:
            finished.append(chunk.choices[0].finish_reason)

    with pytest.raises(openai.APIError) as told:
        await streamed()
    assert told.value.code == code
    assert not any(finished)


async def test_answers_in_json(client: AsyncOpenAI, stub: Stub) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    asked: Any = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema, "strict": True}}
    answer = await client.chat.completions.create(model="auto", messages=said("call|json"), response_format=asked)
    assert json.loads(answer.choices[0].message.content or "") == {"a": 1}
    assert stub.jobs[0].payload.response_format == ResponseFormat("json_schema", json.dumps(schema), "sum", True)
    assert stub.jobs[0].wish.needs == {"json"}
    for wrong in (asked, {"type": "json_object"}):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="auto", messages=said("hi"), response_format=wrong)
        assert caught.value.code == "bad_json"


async def test_the_turns_of_a_conversation_with_tools(client: AsyncOpenAI, stub: Stub) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    turns: Any = [
        {"role": "user", "content": "1 + 2", "name": "mina"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1"},
        *said("and now?"),
    ]
    await client.chat.completions.create(model="auto", messages=turns)
    messages = stub.jobs[0].payload.messages
    assert messages[0].name == "mina"
    assert messages[1].tool_calls == (ToolCall("call_1", "add", '{"a": 1, "b": 2}'),)
    assert messages[2].tool_call_id == "call_1"
    assert stub.jobs[0].wish.needs == frozenset()


BAD = [
    ({"tools": [TOOLS[1], TOOLS[1]]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "text"}}}]},
     "tools.0.function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "http://x/y"}}}]},
     "tools.0.function.parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}},
     "response_format.json_schema.schema"),
    ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]},
     "messages.0.tool_calls.0.type"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_what_is_wrong_is_named(raw: httpx.AsyncClient, stub: Stub, fields: Any, param: str) -> None:
    answer = await raw.post(CHAT, json={"model": "auto", "messages": said("hi"), **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not stub.jobs


async def test_models_without_the_capability_refuse(raw: httpx.AsyncClient) -> None:
    body = {"model": "org/big", "messages": said("hi")}
    picture = shown(type="image_url", image_url={"url": data_url("image/png")})
    for more in ({"tools": TOOLS}, {"response_format": {"type": "json_object"}}, {"messages": picture}):
        answer = await raw.post(CHAT, json=body | more)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_feature")


@pytest.mark.parametrize(
    ("part", "media_type", "need"),
    [
        ({"type": "image_url", "image_url": {"url": data_url("image/png"), "detail": "low"}}, "image/png", "vision"),
        ({"type": "video_url", "video_url": {"url": data_url("VIDEO/mp4")}}, "video/mp4", "video"),
        (
            {"type": "input_audio", "input_audio": {"data": base64.b64encode(PNG).decode(), "format": "mp3"}},
            "audio/mpeg",
            "audio",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_files_come_as_bytes_and_go_with_the_answer(
    raw: httpx.AsyncClient, stub: Stub, part: Any, media_type: str, need: str, stream: bool
) -> None:
    body = {"model": "auto", "messages": shown(**part), "stream": stream}
    answer = await raw.post(CHAT, json=body)
    assert answer.status_code == 200
    (media,) = stub.jobs[0].payload.attachments
    assert (media.media_type, media.size, stub.media) == (media_type, len(PNG), [PNG])
    assert stub.jobs[0].payload.messages[0].content == "What is this?"
    assert stub.jobs[0].wish.needs == {need}
    async with asyncio.timeout(1):
        while Path(media.path).exists():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://169.254.169.254/latest", "data URL"),
        ("https://example.com/a.png", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("//example.com/a.png", "data URL"),
        ("data:,", "image/"),
        ("data:image/png,abc", "base64"),
        ("data:text/html;base64,aGk=", "image/"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,!!!", "base64"),
        ("data:image/png;base64,가", "base64"),
    ],
)
async def test_nothing_is_fetched_and_nothing_is_guessed(
    raw: httpx.AsyncClient, stub: Stub, address: str, words: str
) -> None:
    body = {"model": "auto", "messages": shown(type="image_url", image_url={"url": address})}
    answer = await raw.post(CHAT, json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"].startswith("messages.0.content.1.image_url")
    assert words in error["message"]
    assert not stub.jobs


async def test_there_are_only_so_many_files(raw: httpx.AsyncClient, stub: Stub) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url("image/png")}}
    most = stub.limits.max_media_parts
    for count, status in ((most, 200), (most + 1, 400)):
        body = {"model": "auto", "messages": [{"role": "user", "content": [part] * count}]}
        assert (await raw.post(CHAT, json=body)).status_code == status


async def test_a_route_is_decided_without_the_files_and_with_a_price(raw: httpx.AsyncClient) -> None:
    body = {"messages": shown(type="image_url", image_url={"url": data_url("image/png")}), "tools": TOOLS}
    answer = await raw.post("/api/v1/ai/route", json=body)
    assert answer.json()["model"] == "tutor"
    assert answer.json()["estimated_cost_usd"] > 0
