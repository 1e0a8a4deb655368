"""Files that callers hand over: a path, which is read where it lies, or bytes."""

import mimetypes
import os
import uuid
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from serve_app.types import Media

File = str | os.PathLike[str] | bytes


@dataclass(frozen=True, slots=True)
class Held(Media):
    """A file that is in memory only. Its path is only a name, which no other file has."""

    data: bytes = field(default=b"", repr=False, compare=False)


def media(file: File) -> Media:
    """The file for a payload; whoever receives it computes its hash. Raises `OSError` for a path that can't be read."""
    if isinstance(file, bytes):
        return Held(f"held:{uuid.uuid4().hex}", "", len(file), "", file)
    path = Path(file)
    with path.open("rb"):
        return Media(str(path), "", path.stat().st_size, mimetypes.guess_type(path.name)[0] or "")


def media_or_none(file: File | None) -> Media | None:
    return None if file is None else media(file)


def name_of(file: File) -> str:
    """Empty for bytes."""
    return "" if isinstance(file, bytes) else Path(file).name


def opened(file: Media) -> BinaryIO:
    return BytesIO(file.data) if isinstance(file, Held) else open(file.path, "rb")
