"""What decoding costs, and what it leaves behind."""

import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 0.005


@dataclass
class Seen:
    """CPU seconds of the children that ended meanwhile, and the most that any of them had in memory."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0


@contextmanager
def watched() -> Iterator[Seen]:
    before, seen, over = _cpu_s(), Seen(), threading.Event()
    already = children()
    looking = threading.Thread(target=_look, args=(seen, already, over))
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()
        seen.cpu_s = _cpu_s() - before


def _look(seen: Seen, already: set[str], over: threading.Event) -> None:
    """The kernel's own account of ended children begins with what their parent had when it forked."""
    while not over.wait(LOOK_EVERY_S):
        for pid in children() - already:
            with suppress(OSError):  # it has just ended
                found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                seen.peak_mb = max(seen.peak_mb, int(found[1]) / 1024 if found else 0.0)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children(pid: str = "self") -> set[str]:
    """Of every thread: a child belongs to the thread that started it."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}
