"""The way from Serve's contexts to the fleet policy and back, without a cluster."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.cluster.report import alerts
from serve_app.cluster.steering import Steering
from serve_app.config import EngineEntry, FleetEntry
from serve_app.errors import ConfigError
from serve_app.fleet import _scaling
from serve_app.profile import load_profile

NOW = [0.0]
NOON = 1795230000.0  # 2026-11-21 12:00 in Seoul


def clock() -> float:
    return NOW[0]


def _fleet(**engine: Any) -> FleetEntry:
    return FleetEntry.model_validate(
        {
            "own_replicas": 2,
            "od_per_h": 4,
            "spot_per_h": 1.2,
            "clock": f"{__name__}:clock",
            "engines": {"llm": {"fixed_s": 2.0, **engine}},
        }
    )


def _context(fleet: FleetEntry, target: int, stats: list[dict[str, float]], least: int = 1, waiting: float = 0) -> Any:
    entry = EngineEntry(
        engine="deployments.fake:Scripted",
        slots=8,
        replicas={"min": least, "max": 6},  # type: ignore[arg-type]
    )
    config = AutoscalingConfig(**_scaling("llm", entry, fleet)["autoscaling_config"])
    key = DeploymentID(name="llm", app_name="megacity")
    replicas = [ReplicaID(f"r{at}", key) for at in range(len(stats))]
    raw: dict[str, Any] = {}
    for replica, values in zip(replicas, stats, strict=True):
        for name, value in values.items():
            raw.setdefault(name, {})[replica] = [TimeStampedValue(0.0, value)]
    total = waiting + sum(one.get("running", 0) + one.get("queued", 0) for one in stats)
    return AutoscalingContext(
        key, "llm", "megacity", len(stats), target, replicas, total, waiting, {}, raw, least, 6, {}, None, None,
        time.time(), config,
    )  # fmt: skip


def _stat(running: float = 0, queued: float = 0, came: float = 0, pool: int = 0) -> dict[str, float]:
    return {"running": running, "queued": queued, "came": came, "oldest_wait_s": 3.0 if queued else 0.0, "pool": pool}


def _steering() -> tuple[Steering, list[dict[str, Any]]]:
    shown: list[dict[str, Any]] = []
    NOW[0] = NOON
    return Steering(shown.append), shown


def _run(steering: Steering, fleet: FleetEntry, seconds: float, context: Any) -> int:
    for _ in range(int(seconds / 2)):
        NOW[0] += 2
        target = next(iter(steering.targets({context.deployment_id: context}).values()))
    return target


def test_load_beyond_the_slots_asks_for_more() -> None:
    steering, shown = _steering()
    fleet = _fleet()
    came = 0
    for _ in range(30):
        came += 80
        target = _run(steering, fleet, 10, _context(fleet, 1, [_stat(8, 60, came)]))
    assert target >= 3
    line = shown[-1]["engines"]["llm"]
    assert line["busy"] == 8
    assert line["queued"] == 60
    assert line["why"]


def test_nothing_is_lowered_before_it_is_known_what_runs() -> None:
    steering, _ = _steering()
    fleet = _fleet()
    assert _run(steering, fleet, 18, _context(fleet, 4, [_stat()] * 4)) == 4, "the controller has just started"
    assert _run(steering, fleet, 60, _context(fleet, 4, [_stat(), {}, {}, {}])) == 4, "three have not reported"


def test_the_schedule_narrows_what_is_decided() -> None:
    night = {"start": "23:00", "end": "09:00", "most": 1, "name": "off-peak"}
    day = {"start": "09:00", "end": "23:00", "least": 2, "most": 3, "name": "peak"}
    fleet = _fleet(schedule={"windows": [day, night]})
    steering, shown = _steering()
    quiet = _context(fleet, 2, [_stat(), _stat()])
    assert _run(steering, fleet, 120, quiet) == 2
    assert "peak allows 2 to 3" in shown[-1]["engines"]["llm"]["why"]
    NOW[0] += 12 * 3600
    busy = _context(fleet, 2, [_stat(8, 50, 1000), _stat(8, 50, 1000)])
    assert _run(steering, fleet, 20, busy) == 1


def test_a_sleeper_is_kept_awake_for_a_while_and_then_sleeps() -> None:
    fleet = _fleet(on_demand={"idle_s": 300})
    steering, shown = _steering()
    assert _run(steering, fleet, 60, _context(fleet, 0, [], least=0)) == 0
    assert _run(steering, fleet, 4, _context(fleet, 0, [], least=0, waiting=1)) >= 1
    awake = _context(fleet, 1, [_stat()], least=0)
    assert _run(steering, fleet, 280, awake) >= 1
    assert "idle for" in shown[-1]["engines"]["llm"]["why"]
    assert _run(steering, fleet, 60, awake) == 0


def test_work_in_flight_keeps_a_sleeper_awake() -> None:
    fleet = _fleet(on_demand={"idle_s": 60})
    steering, _ = _steering()
    _run(steering, fleet, 4, _context(fleet, 0, [], least=0, waiting=1))
    assert _run(steering, fleet, 600, _context(fleet, 1, [_stat(running=1)], least=0)) >= 1


def test_a_steady_load_keeps_one_target() -> None:
    """Twelve requests of two seconds at a time, on slots of eight: an hour of it."""
    fleet = _fleet()
    steering, _ = _steering()
    targets, came, target = [], [0.0] * 8, 2
    for _ in range(360):
        for at in range(target):
            came[at] += 60 / target
        target = _run(
            steering, fleet, 10, _context(fleet, target, [_stat(12 / target, 0, came[at]) for at in range(target)])
        )
        targets.append(target)
    changes = sum(one != other for one, other in itertools.pairwise(targets[30:]))
    assert changes <= 4, targets


CHANGES: dict[str, tuple[str, str, str]] = {
    "a price is missing": ("      od_per_h: 4.0\n", "", "fleet.od_per_h"),
    "an engine is unknown": (
        "        nano:\n          cold_s",
        "        none:\n          cold_s",
        "fleet.engines.none",
    ),
    "windows overlap": ('end: "23:00"', 'end: "23:30"', "overlap on mon"),
    "least above most": ("least: 2, most: 2", "least: 5, most: 4", "at least 5 and at most 4"),
    "no policy is named": ("  autoscaling_policy:", "  #", "autoscaling_policy: {policy_function:"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fleet_that_cannot_be_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    before, after, said = CHANGES[name]
    text = (Path(__file__).parent / "elastic.yaml").read_text()
    assert before in text
    path = tmp_path / "p.yaml"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError) as refused:
        load_profile(str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_alerts_say_what_is_short_sold_out_late_and_silent() -> None:
    parts: dict[str, dict[str, Any]] = {
        "fleet": {"stale": True, "age_s": 130, "engines": {"llm": {"target": 3, "running": 1, "why": "2 spot"}}},
        "stock": {"types": {"spot": {"state": "spot is sold out; on demand stands in", "again_at": 160.0}}},
        "node/abc": {"state": "draining", "deadline": 50, "reason": "going"},
        "node/def": {"state": "draining", "deadline": 150, "reason": "going"},
    }
    said = list(alerts(parts, 100.0))
    assert said == [
        "the fleet policy has been silent for 130 s: is Serve's controller running?",
        "llm: 1 of 3 replicas run (2 spot)",
        "spot: spot is sold out; on demand stands in; asked again in 60 s",
        "node/abc: 50 s past its deadline and not drained (going)",
    ]
    assert list(alerts({}, 0.0)) == ["no fleet policy has reported: the head is new, or the profile has none"]
