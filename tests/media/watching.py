"""What decoding costs, and what it leaves behind."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Seen:
    """CPU seconds of the children that ended meanwhile, and the most that any child so far has had in memory."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0


@contextmanager
def watched() -> Iterator[Seen]:
    before, seen = _children(), Seen()
    try:
        yield seen
    finally:
        after = _children()
        seen.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        seen.peak_mb = after.ru_maxrss / 1024


def _children() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children(pid: str = "self") -> set[str]:
    return set(Path(f"/proc/{pid}/task/{Path(f'/proc/{pid}').resolve().name}/children").read_text().split())
