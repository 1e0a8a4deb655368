"""The plan's arithmetic, to the cent."""

import json
from decimal import Decimal

import pytest

from serve_app.errors import ConfigError
from serve_app.simulator.queueing import slots_for, wait_quantile, wait_share
from serve_app.simulator.scenarios import SCENARIOS, scenario


def _step(name, what):
    return next(step for step in scenario(name).steps if step.what == what)


@pytest.mark.parametrize(
    ("name", "what", "value", "agrees"),
    [
        ("gpu", "two A100, all day", "5760", True),
        ("gpu", "one 5090: power", "49.68", True),
        ("gpu", "after", "1490", True),
        ("gpu", "corrected: peak hours", "1680", False),
        ("gpu", "corrected: after", "1824", False),
        ("storage", "before", "923", True),
        ("storage", "after", "9", True),
        ("storage", "corrected: after, with 5 % read from B2", "14", False),
        ("llm", "by the mix alone", "2713.04", False),
        ("llm", "corrected: after", "1424.35", False),
        ("network", "all four, before", "13583", True),
        ("network", "all four, after", "4499", True),
        ("network", "saved", "66.88", True),
        ("network", "corrected: all four, before", "12683", False),
        ("network", "corrected: saved", "64.53", False),
        ("users", "1,000 users: sum", "120", False),
        ("users", "500,000 users: sum", "480", True),
        ("users", "1,000,000 users: sum", "680", False),
        ("users", "1,000,000 users: cards", "400", False),
        ("users", "three cards and their server: power", "129.60", True),
        ("users", "once", "12200", True),
        ("users", "paid back after", "10", True),
        ("users", "optimised, at most", "9600", False),
    ],
)
def test_what_comes_out(name, what, value, agrees):
    step = _step(name, what)
    assert step.is_ == Decimal(value)
    assert step.agrees is agrees


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_data_and_text(name):
    found = scenario(name)
    json.dumps(found.data())
    assert all(step.what in found.text() for step in found.steps)


def test_a_million_users_have_a_fleet_a_p95_and_a_bill():
    whats = [step.what for step in scenario("users").steps]
    assert {"7B: instances at peak", "70B: p95 of the whole answer", "a month, on spot"} <= set(whats)
    assert _step("users", "a month, on spot").is_ < _step("users", "a month, on demand").is_


def test_an_unknown_scenario_is_refused():
    with pytest.raises(ConfigError, match="gpu, storage"):
        scenario("moon")


def test_erlang_c_against_known_values():
    assert wait_share(1, 0.5) == pytest.approx(0.5)
    assert wait_share(2, 1.0) == pytest.approx(1 / 3)
    assert wait_share(10, 8.0) == pytest.approx(0.4092, abs=1e-4)
    assert wait_share(4, 5.0) == 1.0
    assert wait_quantile(1, 0.5, 1.0, 0.95) == pytest.approx(4.605, abs=1e-3)
    assert slots_for(8.0, 1.0, 0.0, 0.95) == 14
