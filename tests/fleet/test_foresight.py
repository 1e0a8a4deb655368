"""The plan of somebody who knew the trace: between the lower bound and what a policy pays that does not know it."""

import pytest

from serve_app.policies.fleet import decide
from serve_app.simulator.bound import lower_bound
from serve_app.simulator.foresight import foresight
from serve_app.simulator.run import simulate
from serve_app.simulator.setup import default_setup
from serve_app.simulator.spot import market
from serve_app.simulator.synthetic import Demand, synthetic
from serve_app.simulator.trace import Trace

NO_SPOT = ((0.0, 0),)


@pytest.fixture(scope="module")
def hours() -> Trace:
    return synthetic({"chat": Demand(3.0, swing=0.6), "gen": Demand(1.0, burst_times=4, burst_s=60)}, 7200, seed=3)


@pytest.mark.parametrize("spot", [NO_SPOT, market(7200, 1)], ids=["none", "market"])
@pytest.mark.parametrize("own", [0, 2])
def test_it_is_carried_out_in_time_for_less_than_without_knowing(hours, own, spot):
    cfg = default_setup(list(hours.engines), own_gpus=own)
    known = foresight(hours, cfg, spot)
    assert known is not None
    assert all(known.attainment(name) >= 0.95 for name in hours.engines)
    assert lower_bound(hours, cfg, spot) <= known.total < simulate(hours, cfg, decide, spot).total
    assert not known.lost


def test_an_instance_is_warm_when_the_load_comes_and_gone_soon_after():
    busy = [3600 + second * 0.5 for second in range(240)]
    trace = Trace(("chat",), busy, [0] * 240, [0] * 240, [500] * 240)  # 2 a second for 2 minutes, 11 s each
    known = foresight(trace, default_setup(["chat"], own_gpus=0), NO_SPOT)
    assert known is not None
    assert known.attainment("chat") >= 0.95
    assert 0 < known.hours["chat"]["od"] < 3 * (120 + 120 + 30) / 3600


def test_what_may_be_late_makes_it_cheaper(hours):
    cfg = default_setup(list(hours.engines), own_gpus=2)
    strict, lax = foresight(hours, cfg, NO_SPOT, free=0.05), foresight(hours, cfg, NO_SPOT, free=0.2)
    assert strict is not None
    assert lax is not None
    assert lax.total < strict.total


def test_own_machines_are_never_more_than_there_are(hours):
    cfg = default_setup(list(hours.engines), own_gpus=2)
    known = foresight(hours, cfg, NO_SPOT)
    assert known is not None
    moments = zip(*known.samples.values(), strict=True)
    assert all(sum(sample.ready[0] + sample.starting[0] for sample in moment) <= 2 for moment in moments)
