"""How two workers share the tests: a file stays on one of them, and so do all the tests that start services."""

from pathlib import Path
from typing import Any

import pytest

CLUSTER = Path(__file__).parent / "cluster"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: CLUSTER not in item.path.parents)  # they mostly wait: first, beside all the others


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "cluster" if file.startswith("tests/cluster/") else file

    return ByFile(config, log)
