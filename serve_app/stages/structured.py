"""What engines give as JSON is read here before anybody relies on it: arguments of tools, answers that must be JSON.

It stands between the dispatch and each engine, so that an answer in one piece that breaks its schema may be asked for
elsewhere. In a stream the pieces are out by then; the run ends with an error instead of its last event.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

from serve_app.errors import BadRequest, EngineFailed
from serve_app.policies.schema import complaint, fault, parsed
from serve_app.types import Chat, Delta, Done, Event, Handler, Job, ToolDelta

CUT = "length"
"""A choice that ran out of tokens may end anywhere, and says so by itself."""

Call = tuple[int, int]


def structured(handler: Handler) -> Handler:
    """`handler`, whose answers are what the job's tools and format say. Raises `EngineFailed` where they are not."""

    def run(job: Job) -> AsyncGenerator[Event]:
        payload = job.payload
        if isinstance(payload, Chat) and (payload.tools or payload.response_format.type != "text"):
            return _checked(handler(job), payload)
        return handler(job)

    return run


async def _checked(events: AsyncGenerator[Event], chat: Chat) -> AsyncGenerator[Event]:
    answer = _Answer(chat)
    async with contextlib.aclosing(events):
        async for event in events:
            answer.see(event)
            yield event


class _Answer:
    """What has come of the choices of one run."""

    def __init__(self, chat: Chat) -> None:
        self._must_call = chat.tool_choice == "required" and bool(chat.tools)
        self._tools = {tool.name: _schema(tool.parameters) for tool in chat.tools}
        form = chat.response_format
        self._form = None if form.type == "text" else _schema(form.schema or '{"type": "object"}')
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        self._names: dict[Call, str] = {}
        self._arguments: defaultdict[Call, list[str]] = defaultdict(list)

    def see(self, event: Event) -> None:
        match event:
            case Delta(text, index):
                self._texts[index].append(text)
            case ToolDelta():
                self._take(event)
            case Done(_, finish):
                for index, reason in enumerate(finish):
                    self._check(index, reason)

    def _take(self, piece: ToolDelta) -> None:
        call = (piece.index, piece.number)
        if call not in self._names:
            if not piece.id or piece.name not in self._tools:
                raise EngineFailed("The model called a tool that it was not given. Please try again.", code="bad_call")
            self._names[call] = piece.name
        self._arguments[call].append(piece.arguments)

    def _check(self, index: int, reason: str) -> None:
        if reason == CUT:
            return
        calls = {call: name for call, name in self._names.items() if call[0] == index}
        for call, name in calls.items():
            if why := _fault("".join(self._arguments[call]), self._tools[name]):
                raise EngineFailed(
                    f"The model called {name} with arguments that its schema does not allow ({why}). Please try again.",
                    code="bad_arguments",
                )
        if not calls and self._must_call:
            raise EngineFailed("The model called no tool, although it had to. Please try again.", code="no_call")
        if not calls and self._form is not None and (why := _fault("".join(self._texts[index]), self._form)):
            raise EngineFailed(
                f"The model's answer is not what 'response_format' asks for ({why}). Please try again.", code="bad_json"
            )


def _fault(text: str, schema: Any) -> str | None:
    try:
        return fault(parsed(text), schema)
    except ValueError:
        return "it is no JSON"


def _schema(text: str) -> Any:
    """The doors have looked at it already, but not every caller comes through one."""
    try:
        schema = parsed(text)
    except ValueError:
        raise BadRequest("A schema is no JSON.") from None
    if wrong := complaint(schema):
        raise BadRequest(f"A schema cannot be kept: {wrong}.")
    return schema
