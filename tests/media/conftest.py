from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.types import Media


@pytest.fixture
def here() -> Callable[[Path], Media]:
    """A file as an engine gets it."""

    def found(path: Path) -> Media:
        return Media(str(path), "0" * 64, path.stat().st_size)

    return found
