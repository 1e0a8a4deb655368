"""What a caller gets."""

from dataclasses import dataclass

from serve_app.types import Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `finish_reason` is `length` if it was cut at `max_tokens`."""

    text: str
    model: str
    version: str
    route: str
    usage: Usage
    finish_reason: str
    request_id: str
