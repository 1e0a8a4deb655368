"""What the host does for an engine: its share of a card as a limit, and its state as metrics."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

import pytest

from serve_app import metrics
from serve_app.engine import Engine, EngineOptions
from serve_app.host import show_state
from serve_app.policies.cards import GIB, Card, card
from serve_app.services.gpus import limited
from serve_app.types import Done, Event, Job, Kind


class Talkative(Engine):
    class Options(EngineOptions):
        memory_fraction: float | None = None

    kinds = frozenset({Kind.CHAT})
    running = 3.0

    def gauges(self) -> Mapping[str, float]:
        return {"requests_running": self.running}

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        yield Done()


class Silent(Talkative):
    class Options(EngineOptions):
        pass

    def gauges(self) -> Mapping[str, float]:
        return {}


@pytest.mark.parametrize(("gpus", "share"), [(0.8, 0.784), (1, 0.964), (2, 0.964), (1.5, 0.734)])
def test_a_fraction_of_a_card_becomes_a_limit(gpus: float, share: float) -> None:
    """Of each card, without the CUDA context, which is half a GiB of 31.36."""
    options = limited(Talkative.Options(), gpus, lambda: [card("h100"), card("rtx-5090")])
    assert options.memory_fraction == pytest.approx(share, abs=0.001)  # type: ignore[attr-defined]


def test_nothing_is_limited_without_need() -> None:
    cards = [Card("small", 4 * GIB, 8.0)]
    assert limited(Talkative.Options(memory_fraction=0.3), 1, lambda: cards) == Talkative.Options(memory_fraction=0.3)
    assert limited(Talkative.Options(), 0, lambda: cards) == Talkative.Options()
    assert limited(Talkative.Options(), 0.5, list) == Talkative.Options()
    assert limited(Silent.Options(), 0.5, lambda: cards) == Silent.Options()


async def test_what_an_engine_says_of_itself_is_a_metric() -> None:
    task = asyncio.create_task(show_state("talkative-test", Talkative(Talkative.Options())))
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    text = metrics.exposition()[0].decode()
    assert 'megacity_engine_state{engine="talkative-test",what="requests_running"} 3.0' in text
    await asyncio.wait_for(show_state("silent", Silent(Silent.Options())), 1)
