"""How two workers share the tests."""

from pathlib import Path

import pytest

CLUSTER = Path(__file__).parent / "cluster"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays on one worker. Tests that start services mostly wait: all on the same worker, and first."""
    items.sort(key=lambda item: CLUSTER not in item.path.parents)
    for item in items:
        group = CLUSTER if CLUSTER in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(group.as_posix()))
