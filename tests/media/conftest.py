from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.types import Media


@pytest.fixture
def media(tmp_path: Path) -> Callable[[str | Path], Media]:
    """A file as an engine gets it."""

    def found(path: str | Path) -> Media:
        return Media(str(path), "0" * 64, Path(path).stat().st_size)

    return found
