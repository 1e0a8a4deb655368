"""What a process and all below it use of the machine's memory, from Linux's /proc."""

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """`pss_mb` is the proportional set size in MiB: shared pages are divided among those who share them."""

    pid: int
    name: str
    pss_mb: float


def tree(root: int) -> list[Process]:
    """The process `root` and its descendants, largest first; empty where there is no /proc."""
    parents = {pid: _parent(pid) for pid in _pids()}
    family = [pid for pid in parents if _descends(pid, root, parents)]
    return sorted((Process(pid, _name(pid), _pss_mb(pid)) for pid in family), key=lambda p: -p.pss_mb)


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()] if PROC.is_dir() else []


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (root, 0):
        pid = parents.get(pid, 0)
    return pid == root


def _parent(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        words = (PROC / str(pid) / "cmdline").read_text().replace("\0", " ").split()
    except OSError:
        return "?"
    name = next((word for word in words if "::" in word), None)
    return name or " ".join(Path(word).name for word in words[:2])


def _pss_mb(pid: int) -> float:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
