"""The service's folder on this machine: its database, its tokens, and which services run."""

import os
from pathlib import Path


def home() -> Path:
    """`MEGACITY_HOME`, or `~/.megacity`; made if need be, for its owner only."""
    folder = Path(os.environ.get("MEGACITY_HOME") or Path.home() / ".megacity")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
