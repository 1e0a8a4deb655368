"""Machines that come, go, are taken back and are sold out, under a service that answers meanwhile.

The tests follow each other on one cluster. Its machines are processes here, so what they cost and how a network fails
is not in it; everything else, from the notice to the replacement, is what runs on rented ones.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from serve_app.cluster import state
from tests.elastic.conftest import ROUNDS, Elastic, wait_for
from tests.elastic.test_agent import Metadata, _url, metadata

__all__ = ["metadata"]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
Record = Callable[[str, object], None]


def _seen(elastic: Elastic) -> str:
    return json.dumps({"state": state.read(elastic.cluster.gcs), "nodes": elastic.cluster.nodes()}, default=str)


def _until(elastic: Elastic, holds: Callable[[], object], within_s: float) -> float:
    return wait_for(holds, within_s, lambda: _seen(elastic))


def test_two_replicas_share_one_rented_machine(elastic: Elastic, measured: Record) -> None:
    took = _until(elastic, lambda: len(elastic.replicas("worker")) == 2, 60)
    measured("two_replicas_s", round(took, 1))
    assert len(set(elastic.replicas("worker"))) == 1, "0.4 + 0.4 of one GPU"
    assert [node["labels"]["pool"] for node in elastic.cluster.nodes().values()] == ["spot"]
    assert elastic.ask("worker-1").status_code == 200


def test_the_policy_and_its_reasons_are_seen(elastic: Elastic) -> None:
    _until(elastic, lambda: state.read(elastic.cluster.gcs).get("fleet", {}).get("engines"), 20)
    worker = state.read(elastic.cluster.gcs)["fleet"]["engines"]["worker"]
    assert worker["target"] == 2, worker
    assert "peak allows 2 to 2" in worker["why"]


def test_a_sleeper_wakes_for_those_who_wait_and_sleeps_again(elastic: Elastic, measured: Record) -> None:
    took = []
    for _ in range(2):
        _until(elastic, lambda: not elastic.replicas("nano") and not elastic.replicas("nano", "STOPPING"), 60)
        started = time.monotonic()
        with elastic.load(workers=3, model="nano-tutor") as tally:
            assert elastic.ask("nano-tutor", "What is 2 + 3?").status_code == 200
            took.append(round(time.monotonic() - started, 2))
        assert tally.failed == 0, tally.strange
    measured("wake_s", took)
    assert "asleep" in state.read(elastic.cluster.gcs)["fleet"]["engines"]["nano"]["why"] or elastic.replicas("nano")


def test_spot_notices_cost_no_request(elastic: Elastic, metadata: Metadata, measured: Record) -> None:
    took = []
    with elastic.load() as tally:
        for _ in range(ROUNDS):
            _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 90)
            victim = elastic.replicas("worker")[0]
            started = time.monotonic()
            _notice(elastic, metadata, victim)
            _until(elastic, lambda gone=victim: gone not in elastic.cluster.nodes(), 60)
            _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 60)
            took.append(round(time.monotonic() - started, 1))
    measured("notices", {"rounds": ROUNDS, "requests": dict(tally.endings), "replaced_s": took})
    assert tally.failed == 0, tally.strange
    nodes = [value for part, value in state.read(elastic.cluster.gcs).items() if part.startswith("node/")]
    assert any("the cloud takes this machine back" in node["reason"] for node in nodes)


def _notice(elastic: Elastic, metadata: Metadata, node_id: str) -> None:
    """What EC2 does, and the machine's own agent as the cluster file starts it."""
    going = datetime.now(UTC) + timedelta(seconds=40)
    metadata.notice = json.dumps({"action": "terminate", "time": going.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()
    command = [sys.executable, "-m", "serve_app.cli", "agent", "--head", elastic.cluster.address, "--node-id", node_id]
    command += [
        "--pid",
        str(elastic.cluster.pids(node_id)[0]),
        "--spot",
        "--spot-url",
        _url(metadata),
        "--every",
        "0.5",
    ]
    with (elastic.cluster.folder / "agent.log").open("ab") as log:
        subprocess.run(command, env=elastic.cluster.environment, stdout=log, stderr=log, timeout=90, check=True)
    metadata.notice = None


def test_machines_that_vanish_cost_no_unary_request(elastic: Elastic, measured: Record) -> None:
    took = []
    with elastic.load() as tally:
        for _ in range(ROUNDS):
            _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 90)
            time.sleep(2)  # long enough for some answers, and for requests to be on their way
            victim = elastic.replicas("worker")[0]
            started = time.monotonic()
            elastic.cluster.pull_the_plug(victim)
            _until(elastic, lambda gone=victim: gone not in elastic.cluster.nodes(), 60)
            _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 60)
            took.append(round(time.monotonic() - started, 1))
    measured("kills", {"rounds": ROUNDS, "requests": dict(tally.endings), "replaced_s": took})
    assert tally.failed == 0, tally.strange


def test_at_night_one_is_enough_and_nothing_is_cut(elastic: Elastic, measured: Record) -> None:
    _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 60)
    with elastic.load() as tally:
        elastic.at(23, 30)
        night = _until(elastic, lambda: len(elastic.replicas("worker")) == 1, 60)
        assert "off-peak allows 1 to 1" in _why(elastic)
        elastic.at(9, 1)
        day = _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 60)
    measured("schedule_s", {"night": round(night, 1), "day": round(day, 1)})
    assert tally.failed == 0, tally.strange


def _why(elastic: Elastic) -> str:
    _until(elastic, lambda: "off-peak" in state.read(elastic.cluster.gcs)["fleet"]["engines"]["worker"]["why"], 10)
    return str(state.read(elastic.cluster.gcs)["fleet"]["engines"]["worker"]["why"])


def test_a_steady_load_makes_few_scale_events(elastic: Elastic, measured: Record) -> None:
    """In a window that leaves the policy free."""
    elastic.at(21)
    changes = 0
    with elastic.load(workers=3) as tally:
        time.sleep(10)
        before = _target(elastic)
        for _ in range(30):
            time.sleep(1)
            changes += before != _target(elastic)
            before = _target(elastic)
    elastic.at(12)
    measured("changes_in_30_s", changes)
    assert changes <= 2
    assert tally.failed == 0, tally.strange


def _target(elastic: Elastic) -> int:
    return int(state.read(elastic.cluster.gcs)["fleet"]["engines"]["worker"]["target"])


def test_sold_out_spot_falls_back_and_returns(elastic: Elastic, measured: Record) -> None:
    cluster = elastic.cluster
    cluster.sell_out("spot")
    asked = len(cluster.orders("refused", "spot"))
    rented = len(cluster.orders("launched", "ondemand"))
    started = time.monotonic()
    with elastic.load() as tally:
        _lose_every_rented_machine(elastic)
        _until(elastic, lambda: len(cluster.orders("launched", "ondemand")) > rented, 60)
        _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 60)
        measured("fallback_s", round(time.monotonic() - started, 1))
        assert "sold out" in json.dumps(state.read(cluster.gcs)["stock"])
        assert len(cluster.orders("refused", "spot")) == asked + 1, "asked once, not once a second"
        cluster.sell_out()
        time.sleep(_cooling_s(elastic) + 1)
        spot = len(cluster.orders("launched", "spot"))
        _lose_every_rented_machine(elastic)
        _until(elastic, lambda: len(cluster.orders("launched", "spot")) > spot, 60)
        _until(elastic, lambda: len(elastic.replicas("worker")) >= 2, 60)
    assert tally.failed == 0, tally.strange


def _cooling_s(elastic: Elastic) -> float:
    """Until spot is asked for again."""
    types = state.read(elastic.cluster.gcs)["stock"]["types"]
    return max(0.0, *((one["again_at"] or 0.0) - time.time() for one in types.values()))


def _lose_every_rented_machine(elastic: Elastic) -> None:
    for node in elastic.cluster.nodes():
        elastic.cluster.pull_the_plug(node)


def test_a_machine_joined_by_hand_is_used_first_and_never_touched(elastic: Elastic, measured: Record) -> None:
    cluster = elastic.cluster
    ended = len(cluster.orders("terminated"))
    machine = cluster.join("manual")
    joined = _until(elastic, lambda: "manual" in _pools(elastic), 60)
    rented = next(iter(cluster.nodes()))
    cluster.pull_the_plug(elastic.replicas("worker")[0])
    _until(elastic, lambda: _where(elastic) == ["manual"], 60)
    freed = _until(elastic, lambda: _pools(elastic) == ["manual"], 60)
    measured("manual_s", {"joined": round(joined, 1), "rented_ones_gone": round(freed, 1)})
    time.sleep(8)
    assert _pools(elastic) == ["manual"], "longer than an idle machine is kept"
    assert machine.poll() is None
    names = {order["of"] for order in cluster.orders("terminated")[ended:]}
    assert names <= set(cluster.rented()), rented


def _pools(elastic: Elastic) -> list[str]:
    return sorted(node["labels"].get("pool", "") for node in elastic.cluster.nodes().values())


def _where(elastic: Elastic) -> list[str]:
    nodes = elastic.cluster.nodes()
    return sorted({nodes[node]["labels"]["pool"] for node in elastic.replicas("worker") if node in nodes})


def test_nothing_of_ours_is_left_after_the_end(elastic: Elastic, measured: Record) -> None:
    from ray import serve

    serve.delete("megacity")
    measured("empty_s", round(_until(elastic, lambda: _pools(elastic) == ["manual"], 60), 1))
    launched = sum(order["count"] for order in elastic.cluster.orders("launched"))
    assert launched == len(elastic.cluster.rented())
    assert set(elastic.cluster.rented()) == {order["of"] for order in elastic.cluster.orders("terminated")}
