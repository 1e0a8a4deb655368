"""Server-sent events, as far as model servers use them."""

import re

LARGEST_EVENT = 1 << 20
_NEWLINE = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)  # a last \r waits for the \n that may follow it


class Events:
    """The data of each server-sent event (WHATWG HTML, section 9.2), however the bytes were cut on their way."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> list[bytes]:
        """The events that a chunk completes. Raises `ValueError` for one that is too large to be meant."""
        *lines, self._rest = _NEWLINE.split(self._rest + chunk)
        found: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
        if self._size + len(self._rest) > LARGEST_EVENT:
            raise ValueError("an event is too large")
        return found
