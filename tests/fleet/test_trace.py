"""Traces and setups that are not as they should be."""

import gzip
import json

import pytest

from serve_app.errors import ConfigError
from serve_app.simulator.setup import checked, default_setup, read_setup
from serve_app.simulator.spot import market, read_spot
from serve_app.simulator.synthetic import Demand, synthetic
from serve_app.simulator.trace import parse_trace, read_trace

HEAD = "t,engine,in_tokens,out_tokens\n"


def test_disorder_is_mended_and_said():
    trace = parse_trace(HEAD + "5,chat,1,1\n1,gen,2,2\n9,chat,3,3\n", "x.csv")
    assert trace.t == [1.0, 5.0, 9.0]
    assert trace.prompt == [2, 1, 3]
    assert "1 of 3 requests" in trace.notes[0]


def test_a_gap_is_said():
    trace = parse_trace(HEAD + "0,chat,1,1\n7200,chat,1,1\n", "x.csv")
    assert "7200 s in all" in trace.notes[0]


def test_seconds_since_the_epoch_start_at_nothing():
    trace = parse_trace(HEAD + "1700000000,chat,1,1\n1700000003.5,chat,1,1\n", "x.csv")
    assert trace.t == [0.0, 3.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t,engine,in_tokens\n0,chat,1\n", "out_tokens"),
        (HEAD, "no request"),
        (HEAD + "0,chat,1,1\nsoon,chat,1,1\n", "line 3"),
        (HEAD + "0,chat,-1,1\n", "line 2"),
        (HEAD + "nan,chat,1,1\n", "line 2"),
        (HEAD + "0,,1,1\n", "engine is empty"),
        (HEAD + "0,chat\n", "line 2"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_trace(text, "x.csv")


def test_gzip_is_read_and_what_is_none_is_refused(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress((HEAD + "0,chat,1,1\n").encode()))
    assert len(read_trace(path)) == 1
    path.write_bytes(b"not gzip")
    with pytest.raises(ConfigError, match=r"x\.csv\.gz"):
        read_trace(path)


@pytest.mark.parametrize("key", ["kwh", "od_per_h", "spot_per_h", "own_gpus", "min_bill_s"])
def test_a_setup_without_a_price_is_refused_by_name(tmp_path, key):
    cfg = default_setup(["chat"])
    del cfg[key]
    path = tmp_path / "setup.json"
    path.write_text(json.dumps(cfg))
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        read_setup(path)


def test_an_engine_without_a_cold_start_is_refused_by_name():
    cfg = default_setup(["chat"])
    cfg["engines"]["chat"]["cold"] = {"own": 40}
    with pytest.raises(ConfigError, match=r"engines\.chat\.cold\.cloud is missing"):
        checked(cfg)


def test_the_spot_market_is_the_same_for_the_same_seed(tmp_path):
    assert market(86400, 1) == market(86400, 1) != market(86400, 2)
    path = tmp_path / "spot.csv"
    path.write_text("t,spot_cap\n600,0\n0,4\n")
    assert read_spot(path) == ((0.0, 4), (600.0, 0))
    path.write_text("when,cap\n1,2\n")
    with pytest.raises(ConfigError, match="spot_cap"):
        read_spot(path)


def test_made_up_traces_have_the_load_that_was_asked_for():
    trace = synthetic({"chat": Demand(5.0, swing=0.5), "gen": Demand(1.0)}, 3600, seed=1)
    chat = trace.engine.count(0)
    assert 5 * 3600 * 0.95 < chat < 5 * 3600 * 1.05
    assert trace.t == sorted(trace.t)
