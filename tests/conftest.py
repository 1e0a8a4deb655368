"""How two workers share the tests: a file stays on one of them, and so do all the tests that start services."""

from typing import Any

import pytest

SERVICES = "tests/cluster/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(SERVICES))  # they mostly wait: first, beside all the others


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling  # the environment of vLLM has no xdist

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SERVICES if nodeid.startswith(SERVICES) else nodeid.split("::")[0]

    return ByFile(config, log)
