"""A real vLLM on the nano tutor, without a GPU. `make test-vllm` has the environment that this takes."""

import importlib.util
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from deployments.vllm import VLLM
from serve_app.engine import Engine
from serve_app.types import Delta
from tests.vllm.adapter import random_adapter

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]

NANO = "models/nano-tutor"
COMPUTED = 2
"""Sequences that are computed together, so that a queue forms."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: takes vLLM, and minutes; `make test-vllm`")


@dataclass(frozen=True, slots=True)
class Running:
    engine: VLLM
    core: psutil.Process
    """The process in which vLLM computes."""


async def started(**options: Any) -> Running:
    before = set(cores())
    settings = {
        "model": NANO,
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_gib": 0.25,
        "max_num_seqs": COMPUTED,
    }
    engine = VLLM(VLLM.Options.model_validate(settings | options), slots=32)
    await engine.load()
    (core,) = set(cores()) - before
    return Running(engine, core)


def cores() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "EngineCore" in p.name()]


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tmp_path_factory.mktemp("adapter"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def usual(adapter: Path) -> AsyncIterator[Running]:
    running = await started(loras={"nano-tutor-tuned": str(adapter)})
    yield running
    await running.engine.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def first_come(usual: Running) -> AsyncIterator[Running]:
    """Another one that knows no priority."""
    running = await started(scheduling="fcfs")
    yield running
    await running.engine.close()


@pytest.fixture
def engine(usual: Running) -> Engine:
    """What the contract is tested on."""
    return usual.engine


@pytest.fixture
def writer(usual: Running) -> Engine:
    """As above."""
    return usual.engine


def text_of(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))
