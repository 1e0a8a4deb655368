"""From the chunks of an upstream's stream to events, believing nothing that cannot be so."""

import math
import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from deployments.upstream.faults import told
from serve_app.errors import EngineFailed
from serve_app.types import Delta, Done, Event, Payload, ToolDelta, Usage

END = b"[DONE]"
FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter"})
ONE_TOKEN_BYTES = 16
"""A piece of at most so many bytes counts as one token, as which servers send them."""
BYTES_PER_TOKEN = 4
AROUND_MESSAGE_TOKENS = 64  # what no chat template exceeds ...
AROUND_PROMPT_TOKENS = 2048  # ... and for the whole prompt, with its words about tools


class Reading:
    """One answer while it comes. `limit` is the most tokens that a choice may have."""

    def __init__(self, payload: Payload, limit: int) -> None:
        self.begun = False
        self.ended = False
        self._payload = payload
        self._limit = limit
        self._finish: list[str | None] = [None] * payload.sampling.n
        self._called: set[int] = set()
        self._calls: dict[tuple[int, int], tuple[str, int]] = {}
        self._usage: Any = None
        self._tokens = 0

    @property
    def complete(self) -> bool:
        """Whether every choice has said that it is over; the usage may still come."""
        return None not in self._finish

    def take(self, data: bytes) -> Iterator[Event]:
        """The events of one chunk. Raises `EngineFailed` if it is none, and what the upstream tells in it."""
        if data == END:
            self.ended = True
            return
        try:
            yield from self._chunk(orjson.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise EngineFailed("The remote model sent something that is no answer. Please try again.") from None

    def done(self, engine_s: float) -> Done:
        """Raises `EngineFailed` if the answer is not whole."""
        if not self.complete:
            raise EngineFailed("The remote model stopped before its answer was complete. Please try again.")
        finish = tuple(
            "tool_calls" if reason == "stop" and index in self._called else str(reason)
            for index, reason in enumerate(self._finish)
        )
        counted = self._counted()
        prompt, completion, cached = counted or (estimate(self._payload), self._tokens, 0)
        return Done(Usage(prompt, completion, cached, engine_s), finish, counted is None)

    def _chunk(self, chunk: dict[str, Any]) -> Iterator[Event]:
        if error := chunk.get("error"):
            raise told(error, self.begun)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            if not (type(index) is int and 0 <= index < len(self._finish)):
                raise ValueError("no such choice")
            yield from self._choice(index, choice)

    def _choice(self, index: int, choice: dict[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta") or {}
        if text := delta.get("content") or delta.get("refusal") or choice.get("text"):
            yield self._seen(Delta(_text(text), index, _tokens_of(text)))
        for call in delta.get("tool_calls") or ():
            yield self._seen(self._call(index, call))
        if reason := choice.get("finish_reason"):
            if reason == "error":
                raise ValueError("the upstream's own failure")
            self._finish[index] = reason if reason in FINISHES else "stop"

    def _call(self, index: int, call: dict[str, Any]) -> ToolDelta:
        place, told_id = (index, call.get("index", 0)), call.get("id") or ""
        function = call.get("function") or {}
        arguments = _text(function.get("arguments") or "")
        known = self._calls.get(place)
        if known and told_id in ("", known[0]):
            return ToolDelta(arguments, index, known[1], tokens=_tokens_of(arguments))
        name, number = _text(function["name"]), sum(1 for at, _ in self._calls if at == index)
        if known:  # some count no calls, and only their ids tell them apart
            self._calls[index, -1 - number] = known
        self._calls[place] = (_text(told_id) or f"call_{uuid.uuid4().hex}", number)
        self._called.add(index)
        return ToolDelta(arguments, index, number, self._calls[place][0], name, _tokens_of(name + arguments))

    def _seen(self, event: Delta | ToolDelta) -> Delta | ToolDelta:
        self.begun = True
        self._tokens += event.tokens
        return event

    def _counted(self) -> tuple[int, int, int] | None:
        """Prompt, completion and cached tokens as the upstream says, or None if that cannot be true."""
        found = self._usage
        if not isinstance(found, dict):
            return None
        details = found.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else 0
        prompt, completion, total = (found.get(f"{name}_tokens") for name in ("prompt", "completion", "total"))
        counts = (prompt, completion, cached or 0)
        if not all(type(count) is int and count >= 0 for count in counts):
            return None
        assert isinstance(prompt, int)
        assert isinstance(completion, int)
        if type(total) is int and total > prompt + completion:  # some count what a model thinks to itself only here
            completion = total - prompt
        elif total is not None and total != prompt + completion:
            return None
        most = self._limit * len(self._finish)
        fits = (self._tokens > 0) <= completion <= most and 0 < prompt <= _most_prompt_tokens(self._payload)
        return (prompt, completion, cached or 0) if fits and (cached or 0) <= prompt else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _tokens_of(text: str) -> int:
    size = len(text.encode("utf-8", "replace"))
    return 1 if size <= ONE_TOKEN_BYTES else math.ceil(size / BYTES_PER_TOKEN)


def estimate(payload: Payload) -> int:
    """Tokens of a prompt that nobody has counted."""
    return sum(math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) + 5 for text in payload.texts)


def _most_prompt_tokens(payload: Payload) -> float:
    """No vocabulary makes more tokens of a text than it has bytes; of a picture nobody knows."""
    if payload.attachments:
        return math.inf
    size = sum(len(text.encode("utf-8", "replace")) + AROUND_MESSAGE_TOKENS for text in payload.texts)
    return (size + AROUND_PROMPT_TOKENS) * payload.sampling.n
