"""The two shapes in which OpenAI clients expect text: chat completions and plain completions."""

from collections.abc import Sequence
from typing import Any, Protocol


class Shape(Protocol):
    """How one kind of answer is written. A choice is a dict of the OpenAI schema."""

    prefix: str
    whole: str
    chunk: str

    def opening(self) -> list[dict[str, Any]]:
        """The choices of the chunks that come before any text."""

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A choice with some text."""

    def closing(self, index: int, finish: str) -> dict[str, Any]:
        """A choice that has ended."""

    def choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        """A whole choice."""


class ChatShape:
    prefix, whole, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, choices: int) -> None:
        self.choices = choices

    def opening(self) -> list[dict[str, Any]]:
        return [_chat_chunk(index, {"role": "assistant", "content": ""}) for index in range(self.choices)]

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return _chat_chunk(index, {"content": text})

    def closing(self, index: int, finish: str) -> dict[str, Any]:
        return _chat_chunk(index, {}, finish)

    def choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


class TextShape:
    """`echoes` holds, for each choice, the text that is to stand before the answer."""

    prefix, whole, chunk = "cmpl-", "text_completion", "text_completion"

    def __init__(self, echoes: Sequence[str]) -> None:
        self.echoes = echoes

    def opening(self) -> list[dict[str, Any]]:
        return [self.piece(index, echo) for index, echo in enumerate(self.echoes) if echo]

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return _text_choice(index, text, None)

    def closing(self, index: int, finish: str) -> dict[str, Any]:
        return _text_choice(index, "", finish)

    def choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        return _text_choice(index, self.echoes[index] + text, finish)


def _chat_chunk(index: int, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _text_choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
