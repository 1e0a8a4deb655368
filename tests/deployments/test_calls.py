"""Tools: schemas that are refused, the grammar of an answer, and calls found in text that comes in pieces."""

import json
from typing import Any

import pytest

from deployments.text.calls import CallReader, grammar, offered
from serve_app.errors import BadRequest, EngineFailed
from serve_app.types import Chat, Message, ResponseFormat, Tool, ToolCall

PLACE = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"]}
WEATHER = Tool("weather", "Of a city.", json.dumps(PLACE))


def chat(*tools: Tool, **fields: Any) -> Chat:
    return Chat((Message("user", "Is it raining?"),), tools=tools, **fields)


def call(name: str = "weather", **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def read(text: str, size: int = 1) -> list[str | ToolCall]:
    """Every item, with neighbouring texts made into one."""
    reader = CallReader()
    items: list[str | ToolCall] = []
    for at in range(0, len(text), size):
        items += reader.push(text[at : at + size])
    items.append(reader.flush())
    joined: list[str | ToolCall] = []
    for item in filter(None, items):
        if joined and isinstance(item, str) and isinstance(joined[-1], str):
            joined[-1] += item
        else:
            joined.append(item)
    return joined


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_found_however_the_text_is_cut(size: int) -> None:
    text = f"I will look. {call(city='Seoul')}\n{call(city='서울')}"
    said, first, second = read(text, size)
    assert said == "I will look. "
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert [json.loads(c.arguments) for c in (first, second)] == [{"city": "Seoul"}, {"city": "서울"}]
    assert first.name == "weather"
    assert first.id != second.id


@pytest.mark.parametrize("text", ["a < b and <tool> and <tool_cal", "<", "no call at all"])
def test_what_only_begins_like_a_call_is_text(text: str) -> None:
    assert read(text) == [text]


def test_half_a_call_is_left_out() -> None:
    assert read("Wait. " + call(city="Seoul")[:-5]) == ["Wait. "]


@pytest.mark.parametrize(
    "text",
    [
        call(city="Seoul")[:-25] + "</tool_call>",
        call().replace("{}", "Infinity"),
        '<tool_call>{"name": "weather"}</tool_call>',
        "<tool_call>weather(Seoul)</tool_call>",
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
    ],
)
def test_a_call_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(EngineFailed) as raised:
        read(text, 1000)
    assert raised.value.code == "bad_call"
    assert "Seoul" not in raised.value.message


@pytest.mark.parametrize("parameters", ["{", "[]", '"text"', '{"a": NaN}', "[" * 100_000])
def test_what_is_no_schema_is_refused(parameters: str) -> None:
    with pytest.raises(BadRequest) as refused:
        offered(chat(WEATHER, Tool("other", parameters=parameters)))
    assert refused.value.param == "tools[1].function.parameters"


def test_without_tools_there_is_nothing_to_call() -> None:
    assert offered(chat(WEATHER, tool_choice="none")) == {}
    with pytest.raises(BadRequest):
        offered(chat(tool_choice="required"))


def test_the_grammar_of_an_answer() -> None:
    def form(**fields: Any) -> dict[str, Any]:
        asked = chat(WEATHER, **fields)
        tag = grammar(asked, offered(asked))
        assert tag is not None
        return tag["format"]  # type: ignore[no-any-return]

    assert form()["type"] == "triggered_tags"
    assert form()["tags"][0]["content"]["json_schema"] == PLACE
    assert form(tool_choice="required", parallel_tool_calls=False)["stop_after_first"] is True
    either = form(response_format=ResponseFormat("json_schema", '{"type": "integer"}'))
    assert [each["type"] for each in either["elements"]] == ["tags_with_separator", "json_schema"]
    assert grammar(chat(), {}) is None
