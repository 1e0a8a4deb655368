"""The simulated world, and the policy in it."""

import math
from itertools import pairwise

import pytest

from serve_app.policies.fleet import decide
from serve_app.simulator import rivals
from serve_app.simulator.picture import timeline
from serve_app.simulator.replay import peaks
from serve_app.simulator.report import summary
from serve_app.simulator.run import simulate
from serve_app.simulator.setup import default_setup
from serve_app.simulator.spot import market
from serve_app.simulator.synthetic import Demand, synthetic
from serve_app.simulator.trace import Trace


def _fixed(**counts):
    return lambda t, obs, mem: {name: {"own": 0, "spot": 0, "od": 0} | counts for name in obs["engines"]}


def _trace(*rows):
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Trace(("chat",), columns[0], [0] * len(rows), columns[1], columns[2])


DAY = synthetic({"chat": Demand(3.0, swing=0.6), "gen": Demand(1.0, burst_times=4, burst_s=60)}, 7200, seed=3)


def _cfg(trace, **changes):
    return default_setup(list(trace.engines), **changes)


def test_one_request_is_served_and_paid_to_the_cent():
    trace = _trace((0.0, 2500, 1000))
    outcome = simulate(trace, _cfg(trace), _fixed(own=1))
    assert outcome.waits["chat"] == [40.0]
    seconds_busy, end = 1 + 22, 70.0
    watt_s = seconds_busy * 575 + (end - seconds_busy) * 30
    assert outcome.cost["chat"]["own"] == pytest.approx(watt_s / 3600 / 1000 * 0.12)


def test_a_cloud_instance_is_paid_from_its_start_and_for_a_minute_at_least():
    trace = _trace((0.0, 0, 0), (100.0, 0, 0))

    def once(t, obs, mem):
        return {"chat": {"own": 1, "spot": 0, "od": 1 if t == 20 else 0}}

    outcome = simulate(trace, _cfg(trace), once)
    assert outcome.cost["chat"]["od"] == pytest.approx(4.0 * 60 / 3600)


def test_requests_are_served_in_the_order_of_their_arrival():
    trace = _trace(*((n * 0.1, 0, 100) for n in range(60)))
    outcome = simulate(trace, _cfg(trace), _fixed(own=1))
    starts = [t + wait for t, wait in zip(trace.t, outcome.waits["chat"], strict=True)]
    assert starts == sorted(starts)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_request_ends_exactly_once_under_lost_spot(seed):
    caps = tuple((n * 300.0, (n * 7 + seed) % 4) for n in range(24))
    outcome = simulate(DAY, _cfg(DAY, own_gpus=1), rivals.ray_serve(0.7), caps)  # ours learns not to count on it
    assert outcome.lost > 0
    assert outcome.served == len(DAY) == sum(len(waits) for waits in outcome.waits.values())
    assert all(wait >= 0 and math.isfinite(wait) for waits in outcome.waits.values() for wait in waits)


def test_a_policy_that_gives_nothing_is_not_waited_for_for_ever():
    trace = _trace((0.0, 10, 10))
    outcome = simulate(trace, _cfg(trace), _fixed())
    assert outcome.waits["chat"] == [math.inf]
    assert summary(outcome)["engines"]["chat"]["unserved"] == 1


def test_a_lowered_count_drains_and_cuts_nothing():
    trace = _trace((0.0, 0, 4000), (200.0, 0, 0))

    def gone_after_a_minute(t, obs, mem):
        return {"chat": {"own": 1 if t < 60 or t >= 200 else 0, "spot": 0, "od": 0}}

    outcome = simulate(trace, _cfg(trace), gone_after_a_minute)
    assert outcome.restarts == 0
    assert outcome.served == 2
    assert outcome.waits["chat"][0] == 40.0


def test_lost_spot_puts_its_requests_back_to_the_head_of_the_queue():
    trace = _trace((0.0, 0, 4000))
    outcome = simulate(trace, _cfg(trace), _fixed(spot=1), ((0.0, 1), (150.0, 0), (160.0, 1)))
    assert (outcome.lost, outcome.restarts, outcome.served) == (1, 1, 1)
    assert outcome.waits["chat"][0] >= 160 + 120


def test_own_gpus_are_shared_and_never_more_than_there_are():
    most = 0

    def greedy(t, obs, mem):
        nonlocal most
        most = max(most, sum(e["ready"]["own"] + e["starting"]["own"] for e in obs["engines"].values()))
        return {name: {"own": 5, "spot": 0, "od": 0} for name in obs["engines"]}

    simulate(DAY, _cfg(DAY, own_gpus=3), greedy)
    assert most == 3


def test_the_policy_is_good_and_much_cheaper_than_ray_tuned():
    caps, cfg = ((0.0, 4),), _cfg(DAY, own_gpus=2)
    ours, ray = (simulate(DAY, cfg, policy, caps) for policy in (decide, rivals.ray_serve(0.7)))
    assert all(ours.attainment(name) >= 0.95 for name in DAY.engines)
    assert ours.total < 0.5 * ray.total


def test_steady_noise_does_not_make_it_flap():
    steady = synthetic({"chat": Demand(6.0)}, 7200, seed=5)
    counts = []

    def watched(t, obs, mem):
        decided = decide(t, obs, mem)
        if t > 1800:
            counts.append(sum(decided["chat"].values()))
        return decided

    outcome = simulate(steady, _cfg(steady, own_gpus=2), watched)
    assert outcome.attainment("chat") >= 0.95
    assert sum(now != before for before, now in pairwise(counts)) <= 12  # in an hour and a half


def test_bursts_are_expected_once_they_have_been_seen():
    bursts = synthetic({"code": Demand(0.5, 1000, 30, burst_times=40, burst_s=30, cycle_s=240)}, 7200, seed=2)
    outcome = simulate(bursts, _cfg(bursts, own_gpus=3), decide)
    late = [wait > 5 for t, wait in zip(bursts.t, outcome.waits["code"], strict=True) if t > 1800]
    assert sum(late) < 0.05 * len(late)


def test_always_on_at_peak_misses_only_what_comes_before_it_is_warm():
    outcome = simulate(DAY, _cfg(DAY), rivals.always_on(peaks(DAY, _cfg(DAY))))
    assert all(wait < 120 + 10 for waits in outcome.waits.values() for wait in waits)
    assert not any(wait for t, wait in zip(DAY.t, outcome.waits["chat"], strict=False) if t > 600)


def test_the_same_run_twice_is_the_same():
    first, second = (summary(simulate(DAY, _cfg(DAY), decide, market(7200, 4))) for _ in range(2))
    assert first == second


def test_the_picture_shows_every_engine():
    drawn = timeline(simulate(DAY, _cfg(DAY), decide), "a <day>")
    assert drawn.startswith("<svg")
    assert "a &lt;day&gt;" in drawn
    assert drawn.count("<polygon") == 3 * len(DAY.engines)
