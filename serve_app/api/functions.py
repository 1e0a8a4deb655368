"""What a chat request says about tools and about the form of its answer, in the vocabulary of engines."""

import json
from typing import Any

from serve_app.api import wire
from serve_app.errors import BadRequest
from serve_app.policies.schema import complaint
from serve_app.types import ResponseFormat, Tool, ToolCall

ANY_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def tools(body: wire.ChatRequest) -> tuple[Tool, ...]:
    """The tools that may be called: with `tool_choice` an object, those that it names. Raises `BadRequest`."""
    offered = body.tools or []
    names = [tool.function.name for tool in offered]
    if len(set(names)) < len(names):
        raise BadRequest("Two 'tools' have the same name. Give each its own.", param="tools")
    made = [_tool(number, tool.function) for number, tool in enumerate(offered)]
    chosen = _chosen(body.tool_choice)
    if chosen is None:
        return tuple(made)
    if unknown := [name for name in chosen if name not in names]:
        raise BadRequest(f"'tool_choice' names {unknown[0]}, which is not among 'tools'.", param="tool_choice")
    return tuple(tool for tool in made if tool.name in chosen)


def tool_choice(body: wire.ChatRequest) -> str:
    """`auto`, `none` or `required`. Raises `BadRequest` if there is nothing to choose from."""
    match body.tool_choice:
        case None:
            return "auto"
        case wire.FunctionChoice():
            return "required"
        case wire.AllowedTools(allowed_tools=allowed):
            return allowed.mode
        case "required" if not body.tools:
            raise BadRequest("'tool_choice' asks for a call, but there are no 'tools'. Send some.", param="tool_choice")
        case name:
            return name


def response_format(body: wire.ChatRequest) -> ResponseFormat:
    """Raises `BadRequest`."""
    asked = body.response_format
    if asked is None or asked.type != "json_schema":
        return ResponseFormat(asked.type if asked else "text")
    form = asked.json_schema
    if form is None or form.definition is None:
        missing = "response_format.json_schema" + ("" if form is None else ".schema")
        raise BadRequest(f"'{missing}' is required.", param=missing)
    schema = _schema(form.definition, "response_format.json_schema.schema")
    return ResponseFormat("json_schema", schema, form.name, bool(form.strict))


def calls(message: wire.AssistantMessage) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(one.id, one.function.name, one.function.arguments) for one in message.tool_calls or ())


def _chosen(choice: str | wire.FunctionChoice | wire.AllowedTools | None) -> list[str] | None:
    match choice:
        case wire.FunctionChoice(function=function):
            return [function.name]
        case wire.AllowedTools(allowed_tools=allowed):
            return [tool.function.name for tool in allowed.tools]
    return None


def _tool(number: int, function: wire.Function) -> Tool:
    schema = _schema(function.parameters or ANY_ARGUMENTS, f"tools.{number}.function.parameters")
    return Tool(function.name, function.description or "", schema, bool(function.strict))


def _schema(schema: dict[str, Any], param: str) -> str:
    """The schema as JSON text, with the blanks that chat templates put into it."""
    if wrong := complaint(schema):
        raise BadRequest(f"'{param}' is no JSON Schema that can be kept: {wrong}.", param=param)
    return json.dumps(schema, ensure_ascii=False)
