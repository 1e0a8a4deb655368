"""From token ids to pieces of text: whole characters only, and nothing of a stop string."""

from collections.abc import Callable, Sequence

from serve_app.types import Delta

Decode = Callable[[int], str | None]
"""The text that a token completes, or None while it ends in the middle of a character."""


class StopMatcher:
    """Cuts a text before the first stop string to be completed, wherever the pieces are split.

    It holds back only what could still become a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.matched = False

    def push(self, piece: str) -> str:
        """What can be shown after this piece. Nothing comes after a match."""
        if not self._stops:
            return piece
        if self.matched:
            return ""
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.matched, self._held = True, ""
            return text[: min(found)[1]]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when no more text will come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


class Choice:
    """One answer in the making. Tokens go in one by one, deltas come out as often as somebody asks for them."""

    def __init__(self, index: int, decode: Decode, stops: Sequence[str]) -> None:
        self.index = index
        self.tokens = 0
        self.finish: str | None = None
        self._decode = decode
        self._stop = StopMatcher(stops)
        self._text = ""
        self._reported = 0

    def push(self, token: int) -> None:
        """Tokens after a stop string, already generated when it was noticed, are neither shown nor counted."""
        if self.finish:
            return
        self.tokens += 1
        self._text += self._stop.push(self._decode(token) or "")
        if self._stop.matched:
            self.finish = "stop"

    def end(self, finish: str) -> None:
        """No more tokens will come. Bytes that are not a whole character by now never will be."""
        self.finish = self.finish or finish
        self._text += self._stop.flush()

    def delta(self, *, last: bool = False) -> Delta | None:
        """The text since the previous delta. The last one may be empty, so that all of them count every token."""
        fresh = self.tokens - self._reported
        if not self._text and not (last and fresh):
            return None
        delta = Delta(self._text, self.index, fresh)
        self._text, self._reported = "", self.tokens
        return delta
