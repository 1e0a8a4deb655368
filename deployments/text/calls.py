"""Tools: what a model is held to when it calls one, and the calls in what it writes.

The format is the one of Hermes and Qwen: `<tool_call>`, a JSON object with `name` and `arguments`, `</tool_call>`.
Grammars leave out some of a schema; whether the arguments keep all of it is for those to judge who pass them on.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from serve_app.errors import BadRequest, EngineFailed
from serve_app.types import Chat, ResponseFormat, ToolCall

BEGIN, END = "<tool_call>", "</tool_call>"
ANY_OBJECT = {"type": "object"}

Schema = dict[str, Any]


def offered(chat: Chat) -> dict[str, Schema]:
    """The schemas of the tools that the model may call, by their names. Raises BadRequest."""
    if chat.tool_choice == "none":
        return {}
    tools = {t.name: _schema(t.parameters, f"tools[{at}].function.parameters") for at, t in enumerate(chat.tools)}
    if chat.tool_choice == "required" and not tools:
        raise BadRequest("A call is required, and there is no tool to call; send 'tools'.", param="tools")
    return tools


def answer_schema(format: ResponseFormat) -> Schema | None:
    """What the text of an answer is held to; None where it is free. Raises BadRequest."""
    if format.type == "text":
        return None
    return ANY_OBJECT if format.type == "json_object" else _schema(format.schema, "response_format.json_schema.schema")


def grammar(chat: Chat, tools: Mapping[str, Schema]) -> dict[str, Any] | None:
    """The structural tag (as xgrammar names it) that an answer with tools is held to; None without tools.

    Whatever the model calls, its arguments are of the tool's schema.
    """
    if not tools:
        return None
    tags = [_tag(name, schema) for name, schema in tools.items()]
    once = not chat.parallel_tool_calls
    only = {"type": "tags_with_separator", "tags": tags, "separator": "\n", "at_least_one": True}
    only["stop_after_first"] = once
    schema = answer_schema(chat.response_format)
    if chat.tool_choice == "required":
        form: dict[str, Any] = only
    elif schema is not None:
        form = {"type": "or", "elements": [only, _json_of(schema)]}
    else:
        form = {"type": "triggered_tags", "triggers": [BEGIN], "tags": tags, "stop_after_first": once}
    return {"type": "structural_tag", "format": form}


class CallReader:
    """Finds calls in a text that comes in pieces. What is read is text, or a whole call."""

    def __init__(self) -> None:
        self.calls = 0
        self._held = ""

    def push(self, piece: str) -> Iterator[str | ToolCall]:
        """Raises EngineFailed for what stands where a call should and is none."""
        self._held += piece
        while BEGIN in self._held:
            text, _, rest = self._held.partition(BEGIN)
            if text.strip():
                yield text
            if END not in rest:
                self._held = BEGIN + rest
                return
            body, _, self._held = rest.partition(END)
            yield self._call(body)
        keep = _beginning(self._held)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        if text and not (self.calls and text.isspace()):
            yield text

    def flush(self) -> str:
        """What was held back, when no more will come. Half a call is of no use to anybody."""
        held, self._held = self._held, ""
        return "" if BEGIN in held or (self.calls and held.isspace()) else held

    def _call(self, body: str) -> ToolCall:
        try:
            said = json.loads(body, parse_constant=_refuse)
            name, arguments = str(said["name"]), json.dumps(said["arguments"], ensure_ascii=False)
        except (ValueError, TypeError, KeyError, RecursionError) as fault:
            raise EngineFailed("The model wrote a tool call that is none; try again.", code="bad_call") from fault
        self.calls += 1
        return ToolCall(f"call_{secrets.token_hex(12)}", name, arguments)


def _tag(name: str, schema: Schema) -> dict[str, Any]:
    begin = f'{BEGIN}\n{{"name": {json.dumps(name)}, "arguments": '
    content = _json_of(schema)
    return {"type": "tag", "begin": begin, "content": content, "end": f"}}\n{END}"}


def _json_of(schema: Schema) -> dict[str, Any]:
    """Models that are free to put white space into JSON have been seen to write nothing else."""
    return {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": 1}


def _schema(text: str, param: str) -> Schema:
    try:
        schema = json.loads(text or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as fault:
        raise BadRequest("The schema is not JSON.", param=param) from fault
    if not isinstance(schema, dict):
        raise BadRequest("The schema should be an object.", param=param)
    return schema


def _beginning(text: str) -> int:
    """How many of the last characters may be the beginning of a call."""
    sizes = range(min(len(BEGIN) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(BEGIN[:size])), 0)


def _refuse(constant: str) -> object:
    raise ValueError(constant)
