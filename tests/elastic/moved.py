"""A clock that tests move: an offset to the real time, in a file of the service's own folder."""

import os
import time
from pathlib import Path


def clock() -> float:
    try:
        offset = float((Path(os.environ["MEGACITY_HOME"]) / "clock").read_text())
    except (OSError, ValueError):
        offset = 0.0
    return time.time() + offset
