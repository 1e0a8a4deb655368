"""The door `serve_app.policies.fleet:decide`, asked directly."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.policies.fleet import decide
from serve_app.policies.fleet_load import Outlook
from serve_app.policies.fleet_obs import read
from serve_app.policies.fleet_plan import insurance
from serve_app.simulator.setup import LLM
from tests.fleet.worlds import POOLS, config, engine, observation

counts = st.fixed_dictionaries({pool: st.integers(0, 6) for pool in POOLS})
odd = st.one_of(st.none(), st.floats(allow_nan=True), st.integers(-5, 2000), st.just("many"))
engines = st.dictionaries(
    st.sampled_from(["chat", "gen"]),
    st.fixed_dictionaries(
        {},
        optional={
            "queued": odd, "running": odd, "arrivals": odd, "oldest_wait": odd,
            "ready": st.one_of(counts, st.none()), "starting": counts,
        },
    ),
)  # fmt: skip
steps = st.lists(
    st.tuples(st.floats(-1e4, 1e4), engines, st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=12
)


@settings(max_examples=120, deadline=None)
@given(steps=steps, own=st.integers(0, 5), spot_price=st.sampled_from([0.0, 1.2, 9.0]))
def test_any_observation_gets_counts_that_can_be_carried_out(steps, own, spot_price):
    cfg, mem = config(own_gpus=own, spot_per_h=spot_price), {}
    for t, seen, cap, free in steps:
        decided = decide(t, {"cfg": cfg, "spot_cap": cap, "own_free": free, "engines": seen}, mem)
        assert set(decided) == set(seen)
        assert all(set(pools) == set(POOLS) for pools in decided.values())
        assert all(isinstance(n, int) and n >= 0 for pools in decided.values() for n in pools.values())
        assert sum(pools["own"] for pools in decided.values()) <= own


@settings(max_examples=40, deadline=None)
@given(steps=steps)
def test_the_same_questions_get_the_same_answers(steps):
    answers = []
    for _ in range(2):
        mem, found = {}, []
        for t, seen, cap, free in steps:
            asked = {"cfg": config(), "spot_cap": cap, "own_free": free, "engines": seen}
            before = copy.deepcopy(asked)
            found.append(decide(t, asked, mem))
            assert repr(asked) == repr(before)
        answers.append((found, repr(mem)))
    assert answers[0] == answers[1]


def test_the_memory_is_plain_data_that_survives_a_restart():
    mem, other = {}, {}
    for tick in range(40):
        seen = {"chat": engine(running=6, arrivals=12), "gen": engine(arrivals=1)}
        expected = decide(tick * 10.0, observation(engines=seen), mem)
        other = json.loads(json.dumps(other))
        assert decide(tick * 10.0, observation(engines=seen), other) == expected


def test_own_gpus_are_loaded_before_anybody_asks():
    decided = decide(0.0, observation(), {})
    assert sum(pools["own"] for pools in decided.values()) == config()["own_gpus"]
    assert all(pools["own"] >= 1 and pools["spot"] == pools["od"] == 0 for pools in decided.values())


def _loaded(arrivals: int, ticks: int, **world):
    """What is decided when so many requests arrive each tick and everything asked for is there at once."""
    mem, decided, cfg = {}, {}, world.pop("cfg", config())
    for tick in range(ticks):
        ready = decided.get("chat", dict.fromkeys(POOLS, 0))
        slots = ready["own"] * 8 + (ready["spot"] + ready["od"]) * 12
        running = min(slots, round(arrivals * 0.48))
        seen = {"chat": engine(arrivals=arrivals, running=running, ready=ready), "gen": engine()}
        decided = decide(tick * 10.0, observation(cfg, engines=seen, **world), mem)
    return decided


def test_what_own_gpus_cannot_carry_is_rented_on_spot_first():
    decided = _loaded(120, 60)["chat"]
    assert decided["own"] * 8 + (decided["spot"] + decided["od"]) * 12 > 58
    assert decided["spot"] > 0


def test_spot_is_exchanged_for_on_demand_as_the_risk_of_losing_it_is_worth():
    world = read(observation(engines={"chat": engine(ready={"own": 1, "spot": 4, "od": 0})}))
    busy = Outlook((40.0,) * 80, (), 40.0, 0.0, 5.0, 0.05, known=True)

    def exchanged(every_s: float, cap: int = 4) -> int:
        return insurance(world.specs["chat"], world.seen["chat"], busy, 1, (4, 0), cap, 1 / every_s)

    assert exchanged(1e9) == 0
    assert 0 < exchanged(3600.0) <= 4
    assert exchanged(3600.0, cap=8) <= exchanged(3600.0)


def test_losses_are_counted_whether_or_not_it_was_ours_that_was_lost():
    rates = []
    for caps in (5,), (5, 0, 5, 0, 5):
        mem = {}
        for tick in range(720):
            decide(tick * 10.0, observation(spot_cap=caps[tick * len(caps) // 720]), mem)
        rates.append(mem["market"]["fell"] / mem["market"]["for"])
    assert rates[0] * 2 < rates[1]


def test_while_requests_are_late_no_order_is_taken_back():
    mem, ordered = {}, 0
    for tick in range(12):
        seen = {
            "chat": engine(
                arrivals=60 if tick < 6 else 0,
                queued=max(0, 150 - 10 * tick),
                running=24,
                oldest_wait=30.0,
                ready={"own": 3, "spot": 0, "od": 0},
                starting={"own": 0, "spot": 0, "od": ordered},
            ),
            "gen": engine(),
        }
        decided = decide(tick * 10.0, observation(engines=seen, own_free=0, spot_cap=0), mem)["chat"]
        assert decided["od"] >= ordered
        ordered = decided["od"]
    assert ordered > 0


def test_without_spot_it_is_rented_on_demand():
    decided = _loaded(120, 60, spot_cap=0)["chat"]
    assert decided["spot"] == 0
    assert decided["own"] * 8 + decided["od"] * 12 > 58


def test_spot_that_is_promised_and_does_not_come_is_not_waited_for():
    mem, decided = {}, {}
    for tick in range(30):
        od = decided["chat"]["od"] if decided else 0
        seen = {
            "chat": engine(arrivals=120, running=24, queued=40, oldest_wait=8.0, ready={"own": 3, "spot": 0, "od": od}),
            "gen": engine(),
        }
        decided = decide(tick * 10.0, observation(engines=seen, own_free=0), mem)
    assert decided["chat"]["od"] > 0


def test_without_own_gpus_and_prices_of_nothing_it_still_serves():
    cfg = config(own_gpus=0, od_per_h=0, spot_per_h=0, kwh=0)
    decided = _loaded(120, 60, cfg=cfg, spot_cap=0, own_free=0)["chat"]
    assert decided["own"] == 0
    assert decided["od"] * 12 > 58


def test_what_is_to_go_stays_until_its_replacement_is_warm():
    mem = {}
    for tick in range(60):
        ready = {"own": 0, "spot": 0, "od": 3}
        seen = {"chat": engine(arrivals=60, running=29, ready=ready), "gen": engine()}
        decided = decide(tick * 10.0, observation(engines=seen), mem)
        kept = sum(decided["chat"][pool] * size for pool, size in (("own", 8), ("spot", 12), ("od", 12)))
        assert decided["chat"]["od"] * 12 >= min(36, kept - 12) or decided["chat"]["od"] == 3


def test_an_engine_that_is_silent_for_hours_costs_no_cloud():
    mem, decided = {}, {}
    for tick in range(1500):
        arrivals = 60 if tick < 60 else 0
        ready = decided.get("chat", dict.fromkeys(POOLS, 0))
        seen = {"chat": engine(arrivals=arrivals, running=arrivals // 2, ready=ready), "gen": engine()}
        decided = decide(tick * 10.0, observation(engines=seen), mem)
    assert decided["chat"]["spot"] == decided["chat"]["od"] == 0


def test_a_gap_and_a_clock_that_goes_back_do_no_harm():
    mem = {}
    for t in (1e9, 1e9 + 10, 1e9 + 5, 1e9 + 90_000, 0.0, 10.0):
        decided = decide(t, observation(engines={"chat": engine(arrivals=30, running=10), "gen": engine()}), mem)
        assert all(n < 20 for pools in decided.values() for n in pools.values())


def test_engines_come_and_go():
    mem = {}
    decide(0.0, observation(), mem)
    only = decide(10.0, observation(engines={"gen": engine(arrivals=3)}), mem)
    both = decide(20.0, observation(), mem)
    assert (set(only), set(both)) == ({"gen"}, {"chat", "gen"})


def test_objects_do_as_well_as_mappings():
    plain = decide(0.0, observation(), {})
    cfg = SimpleNamespace(**config())
    assert decide(0.0, SimpleNamespace(**observation() | {"cfg": cfg}), {}) == plain


@pytest.mark.parametrize("key", ["od_per_h", "spot_per_h"])
def test_a_missing_price_is_named(key):
    cfg = config(engines={"chat": LLM})
    del cfg[key]
    with pytest.raises(ValueError, match=key):
        decide(0.0, observation(cfg), {})


def test_an_engine_that_the_configuration_does_not_know_is_named():
    with pytest.raises(ValueError, match=r"engines\.poet"):
        decide(0.0, observation(engines={"poet": engine()}), {})


def test_a_price_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="od_per_h"):
        decide(0.0, observation(config(engines={"chat": LLM}, od_per_h=math.nan)), {})
