"""From an upstream's embeddings to rows of little-endian float32."""

import struct
from typing import Any

import orjson

from serve_app.errors import EngineFailed
from serve_app.types import Embedding


def vectors_of(answer: bytes, payload: Embedding) -> tuple[bytes, int | None]:
    """The rows, one per text in the order of the texts, and the tokens that were read, if the upstream says it.

    Raises `EngineFailed` for anything but as many rows of one length as there are texts.
    """
    try:
        found = orjson.loads(answer)
        rows = {row["index"]: row["embedding"] for row in found["data"]}
        ordered = [rows[at] for at in range(len(payload.inputs))]
        size = payload.dimensions or len(ordered[0])
        if size < 1 or any(len(row) != size for row in ordered) or len(found["data"]) != len(ordered):
            raise ValueError("not the rows that were asked for")
        return b"".join(struct.pack(f"<{size}f", *row) for row in ordered), _read(found)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error):
        raise EngineFailed("The remote model sent something that is no answer. Please try again.") from None


def _read(found: Any) -> int | None:
    usage = found.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and tokens > 0 else None
