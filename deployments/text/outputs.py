# mypy: disable-error-code="import-not-found"
"""From what vLLM hands out, a few tokens of one choice at a time, to the events of a run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployments.text.calls import CallReader
from serve_app.errors import EngineFailed
from serve_app.types import Delta, Done, ToolCall, ToolDelta, Usage

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput

BROKEN = frozenset({"abort", "error"})


class Answer:
    """The choices of one run. Tokens that end an answer are neither shown nor counted.

    `alike`: all choices say the same, which has been computed once.
    """

    def __init__(self, n: int, may_call: bool, alike: bool) -> None:
        self._choices = [_Choice(index, may_call) for index in range(n)]
        self._alike = alike
        self._usage = Usage()

    def push(self, output: "RequestOutput") -> Iterator[Delta | ToolDelta]:
        """Raises EngineFailed."""
        if not self._usage.prompt_tokens:
            prompt = len(output.prompt_token_ids or ())
            self._usage = Usage(prompt_tokens=prompt, cached_tokens=output.num_cached_tokens or 0)
        for piece in output.outputs:
            for choice in self._choices if self._alike else [self._choices[piece.index]]:
                yield from choice.push(piece)

    def done(self, engine_s: float) -> Done:
        tokens = sum(choice.tokens for choice in self._choices)
        usage = self._usage + Usage(completion_tokens=tokens, engine_s=engine_s)
        return Done(usage, tuple(choice.finish or "stop" for choice in self._choices))


class _Choice:
    def __init__(self, index: int, may_call: bool) -> None:
        self.index = index
        self.tokens = 0
        self.finish: str | None = None
        self._reader = CallReader() if may_call else None
        self._untold = 0
        """Tokens without a delta: those of half a character, or of a call that is not yet whole."""

    def push(self, piece: "CompletionOutput") -> Iterator[Delta | ToolDelta]:
        self._count(piece)
        for item in self._read(piece.text):
            yield self._told(item)
        if self.finish:
            rest = self._reader.flush() if self._reader else ""
            if rest or self._untold:
                yield self._told(rest)
            if self._reader and self._reader.calls and self.finish == "stop":
                self.finish = "tool_calls"

    def _count(self, piece: "CompletionOutput") -> None:
        ended = piece.finish_reason
        if ended in BROKEN:
            raise EngineFailed("The language engine gave up this answer; try again.")
        end_token = ended == "stop" and not isinstance(piece.stop_reason, str)
        fresh = max(0, len(piece.token_ids) - end_token)
        self.tokens += fresh
        self._untold += fresh
        if ended:
            self.finish = "length" if ended == "length" else "stop"

    def _read(self, text: str) -> Iterator[str | ToolCall]:
        if self._reader:
            yield from self._reader.push(text)
        elif text:
            yield text

    def _told(self, item: str | ToolCall) -> Delta | ToolDelta:
        tokens, self._untold = self._untold, 0
        if isinstance(item, str):
            return Delta(item, self.index, tokens)
        number = self._reader.calls - 1 if self._reader else 0
        return ToolDelta(item.arguments, self.index, number, item.id, item.name, tokens)
