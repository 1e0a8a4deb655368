"""The two shapes in which OpenAI clients expect text: chat completions and plain completions."""

from collections.abc import Sequence
from typing import Any, Protocol

from serve_app.types import ToolCall, ToolDelta


class Shape(Protocol):
    """How one kind of answer is written. A choice is a dict of the OpenAI schema."""

    prefix: str
    whole: str
    chunk: str

    def opening(self, first: ToolDelta | None) -> list[dict[str, Any]]:
        """The choices of the chunks that come before any text; `first` if it is a call that comes."""

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A choice with some text."""

    def called(self, piece: ToolDelta) -> dict[str, Any]:
        """A choice with a piece of a call."""

    def closing(self, index: int, finish: str) -> dict[str, Any]:
        """A choice that has ended."""

    def choice(self, index: int, text: str, finish: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """A whole choice."""


class ChatShape:
    prefix, whole, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, choices: int) -> None:
        self.choices = choices

    def opening(self, first: ToolDelta | None) -> list[dict[str, Any]]:
        content = "" if first is None else None
        return [_chat_chunk(index, {"role": "assistant", "content": content}) for index in range(self.choices)]

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return _chat_chunk(index, {"content": text})

    def called(self, piece: ToolDelta) -> dict[str, Any]:
        call: dict[str, Any] = {"index": piece.number}
        if piece.id:
            call |= {"id": piece.id, "type": "function"}
        function = {"name": piece.name} if piece.id else {}
        call["function"] = {**function, "arguments": piece.arguments}
        return _chat_chunk(piece.index, {"tool_calls": [call]})

    def closing(self, index: int, finish: str) -> dict[str, Any]:
        return _chat_chunk(index, {}, finish)

    def choice(self, index: int, text: str, finish: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": [_whole_call(call) for call in calls]}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


class TextShape:
    """`echoes` holds, for each choice, the text that is to stand before the answer."""

    prefix, whole, chunk = "cmpl-", "text_completion", "text_completion"

    def __init__(self, echoes: Sequence[str]) -> None:
        self.echoes = echoes

    def opening(self, _: ToolDelta | None) -> list[dict[str, Any]]:
        return [self.piece(index, echo) for index, echo in enumerate(self.echoes) if echo]

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return _text_choice(index, text, None)

    def called(self, piece: ToolDelta) -> dict[str, Any]:
        raise NotImplementedError("a completion is given no tools")

    def closing(self, index: int, finish: str) -> dict[str, Any]:
        return _text_choice(index, "", finish)

    def choice(self, index: int, text: str, finish: str, _: Sequence[ToolCall]) -> dict[str, Any]:
        return _text_choice(index, self.echoes[index] + text, finish)


def _whole_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _chat_chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _text_choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
