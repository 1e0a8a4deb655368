"""Files on their way to another node: through Ray's object store, in pieces, so that none is ever in memory whole."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from serve_app.errors import Unavailable
from serve_app.services.spool import Spool, SpoolFile
from serve_app.types import Job, Media

PIECE_BYTES = 8 * 2**20
Pieces = tuple["ray.ObjectRef[bytes]", ...]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A job with the bytes of its files; whoever packed it keeps it until the job is done."""

    job: Job
    contents: Mapping[str, Pieces]
    """The pieces of each file, by its path on the node that it comes from."""


def files_of(value: Any) -> Iterator[Media]:
    """Every file that a payload holds, at any depth."""
    if isinstance(value, Media):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from files_of(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from files_of(getattr(value, field.name))


def with_files(value: Any, moved: Mapping[str, Media]) -> Any:
    """The same value with its files where they are now, by their paths before."""
    if isinstance(value, Media):
        return moved[value.path]
    if isinstance(value, tuple):
        return tuple(with_files(item, moved) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: with_files(getattr(value, f.name), moved) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value


async def packed(job: Job) -> Parcel:
    """Raises `Unavailable` if a file is gone, which happens to a request that nobody waits for any more."""
    contents = {file.path: await asyncio.to_thread(_pieces, Path(file.path)) for file in files_of(job.payload)}
    return Parcel(job, contents)


@contextlib.asynccontextmanager
async def unpacked(parcel: Parcel, spool: Spool) -> AsyncGenerator[Job]:
    """The job with its files on this node, for as long as the block lasts. Raises `Unavailable`."""
    with contextlib.ExitStack() as stack:
        moved: dict[str, Media] = {}
        for file in files_of(parcel.job.payload):
            here = spool.file()
            stack.callback(here.remove)
            await _fill(here, parcel.contents[file.path])
            moved[file.path] = here.media(file.media_type)
        yield dataclasses.replace(parcel.job, payload=with_files(parcel.job.payload, moved))


def _pieces(path: Path) -> Pieces:
    try:
        with path.open("rb") as file:
            return tuple(ray.put(piece) for piece in iter(lambda: file.read(PIECE_BYTES), b""))
    except FileNotFoundError as error:
        raise Unavailable("an upload was removed before its engine could take it; send it again") from error


async def _fill(file: SpoolFile, pieces: Pieces) -> None:
    await file.write(b"")  # also an empty file is one
    for piece in pieces:
        await file.write(await piece)
