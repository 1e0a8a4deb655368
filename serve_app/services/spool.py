"""Files of requests on their way: on disk, for their owner only, and gone when the request is answered."""

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from serve_app.errors import Unavailable
from serve_app.services.home import home
from serve_app.types import Media

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Spool:
    """A folder of this process under `home()/spool`; the first use makes it and removes those of dead processes.

    A process holds a lock beside its folder for as long as it lives, so that whoever gets that lock knows that nobody
    needs the folder any more, whatever became of its owner.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._folder: Path | None = None
        self._making = threading.Lock()

    def file(self) -> "SpoolFile":
        """A file that is not there before something is written to it."""
        return SpoolFile(self)

    def folder(self) -> Path:
        with self._making:
            if self._folder is None:
                self._folder = self._make(self._root or home() / "spool")
            return self._folder

    def _make(self, root: Path) -> Path:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(root / ".sweep"):  # nobody sweeps away what somebody else is just making
            _sweep(root)
            name = uuid.uuid4().hex
            self._alive = os.open(root / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            folder = root / name
            folder.mkdir(mode=0o700)
        return folder

    def close(self) -> None:
        """Remove everything. Without it the next process to start does so."""
        with self._making:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.with_suffix(".lock").unlink(missing_ok=True)
                os.close(self._alive)
                self._folder = None


class SpoolFile:
    """A file that is being written. It is made, written and counted in a thread, one call at a time."""

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        self._spool = spool
        self._hash = hashlib.sha256()
        self._file: FileIO | None = None
        self._closed = False
        self._using = threading.Lock()

    async def write(self, data: bytes | bytearray) -> None:
        """Append. Raises `Unavailable` when the disk is full."""
        await asyncio.to_thread(self._append, data)

    def media(self, media_type: str = "") -> Media:
        """What was written, for an engine."""
        self.close()
        assert self._file
        return Media(str(self._file.name), self._hash.hexdigest(), self.size, media_type)

    def close(self) -> None:
        with self._using:
            self._closed = True
            if self._file:
                self._file.close()

    def remove(self) -> None:
        self.close()
        if self._file:
            Path(str(self._file.name)).unlink(missing_ok=True)

    def _append(self, data: bytes | bytearray) -> None:
        with self._using, memoryview(data) as rest, _told_when_full():
            if self._closed:  # the request was dropped while this call waited for its thread
                return
            if self._file is None:
                self._file = FileIO(str(self._spool.folder() / uuid.uuid4().hex), "xb", opener=_private)
            self._hash.update(rest)
            self.size += len(rest)
            while len(rest):
                rest = rest[self._file.write(rest) :]


def _sweep(root: Path) -> None:
    for lock in root.glob("*.lock"):
        with suppress(BlockingIOError), _locked(lock, fcntl.LOCK_NB):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, how: int = 0) -> Iterator[None]:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(lock)


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Unavailable("There is no room for uploads at the moment. Try again later.") from None
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
