"""`megacity simulate`, from the command line's options to what is printed."""

import argparse
import json

import pytest

from serve_app.commands.simulate import add_options, run
from serve_app.errors import ConfigError

ROWS = "".join(f"{n * 2},{'chat' if n % 3 else 'gen'},800,150\n" for n in range(300))


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("t,engine,in_tokens,out_tokens\n" + ROWS)
    return path


def _run(*arguments, as_json=False):
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_options(parser)
    return run(parser.parse_args([*map(str, arguments), *(["--json"] if as_json else [])]))


def test_a_trace_under_every_policy(trace):
    found = _run(trace, as_json=True)
    json.dumps(found)
    assert found["requests"] == 300
    assert "always on at peak" in found["policies"]
    assert {"chat", "gen"} == set(found["policies"]["megacity"]["engines"])
    assert "Ray Serve at 70 %" in _run(trace)


def test_the_picture_is_written(trace, tmp_path):
    _run(trace, "--alone", "--spot", "none", "--picture", tmp_path / "day.svg")
    assert (tmp_path / "day.svg").read_text().startswith("<svg")


def test_a_setup_that_lacks_an_engine_of_the_trace_names_it(trace, tmp_path):
    from serve_app.simulator.setup import default_setup

    (tmp_path / "setup.json").write_text(json.dumps(default_setup(["chat"])))
    with pytest.raises(ConfigError, match=r"engines\.gen is missing"):
        _run(trace, "--setup", tmp_path / "setup.json")


def test_rows_without_an_engine_are_routed_by_a_profile(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("t,task,in_tokens,out_tokens\n0,qa,100,50\n1,,100,50\n")
    found = _run(path, "--profile", "embedded", "--alone", as_json=True)
    assert sum(row["requests"] for row in found["policies"]["megacity"]["engines"].values()) == 2


def test_a_scenario_needs_no_trace():
    assert "corrected" in _run("--scenario", "network")
    assert _run("--scenario", "gpu", as_json=True)["scenario"] == "gpu"


def test_nothing_to_simulate_is_said():
    with pytest.raises(ConfigError, match="--scenario"):
        _run()
