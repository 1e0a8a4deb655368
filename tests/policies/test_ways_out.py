"""What never leaves the house, and in which order the rest may."""

from decimal import Decimal
from typing import Any

import pytest

from serve_app.errors import BadRequest
from serve_app.policies.pricing import Price, Tariff
from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Health, Model, Router
from serve_app.policies.tables import RoutingTables, Step, Task, Zone
from serve_app.profile import load_profile
from serve_app.types import Caller, Constraints, Job, Priority
from tests.policies.conftest import job

CATALOGUE = {
    model.id: model
    for model in (
        Model("gpt", "openai", node_class="openai", region="us"),
        Model("big", "remote", node_class="remote", region="kr"),
        Model("rented", "spot-engine", node_class="spot"),
        Model("mixed", "mixed-engine", pools=frozenset({"onprem", "spot"})),
        Model("small", "small-engine"),
        Model("coach", "coach-engine", pools=frozenset({"onprem", "remote"})),
    )
}
TARIFF = Tariff({("gpt", "1"): Price(4096, 10**9, 10**10), ("big", "1"): Price(4096, 10**8, 10**9)})
"""An answer of 300 tokens costs 0.003 and 0.0003 dollars."""
RETREAT = (
    Step("onprem"),
    Step("spot"),
    Step("remote", tiers=("premium", "standard"), at_most_usd=Decimal("0.01")),
    Step("openai", tiers=("premium",), at_most_usd=Decimal("0.005")),
)
ZONES = {
    "School": Zone(stays=("onprem",)),
    "College": Zone(stays=("onprem", "spot")),
    "Shop": Zone(model="gpt"),
}


def router(**changes: Any) -> Router:
    tables: dict[str, Any] = {"default": "small", "zones": ZONES, "retreat": RETREAT, **changes}
    return Router(RoutingTables(**tables), CATALOGUE, Templates(), tariff=TARIFF)


def planned(a_router: Router, request: Job, health: dict[str, Health] | None = None) -> list[str]:
    return [candidate.decision.model for candidate in a_router.decide(request, health or {})]


@pytest.mark.parametrize(
    ("tier", "models"),
    [
        (Priority.PREMIUM, ["small", "mixed", "coach", "rented", "big", "gpt"]),
        (Priority.STANDARD, ["small", "mixed", "coach", "rented", "big"]),
        (Priority.BATCH, ["small", "mixed", "coach", "rented"]),
    ],
)
def test_the_order_of_retreat(tier: Priority, models: list[str]) -> None:
    assert planned(router(), job("hi", priority=tier)) == models


def test_what_would_cost_too_much_does_not_go_there() -> None:
    assert "gpt" not in planned(router(), job("hi", priority=Priority.PREMIUM, max_tokens=600))
    assert planned(router(), job("hi", priority=Priority.PREMIUM, max_tokens=600))[-1] == "big"


def test_when_the_house_is_down_the_next_step_answers() -> None:
    down: dict[str, Health] = dict.fromkeys(["small-engine", "mixed-engine", "coach-engine"], "broken")
    assert planned(router(), job("hi"), down) == ["rented", "big"]
    assert planned(router(), job("hi"), down | {"spot-engine": "broken"}) == ["big"]


def test_without_a_retreat_everybody_stands_in() -> None:
    assert set(planned(router(retreat=()), job("hi"))) == set(CATALOGUE)


def test_a_rule_may_name_what_no_step_allows() -> None:
    assert planned(router(), job("hi", zone="Shop", priority=Priority.BATCH))[0] == "gpt"


@pytest.mark.parametrize(
    ("zone", "models"), [("School", {"small"}), ("College", {"small", "mixed", "rented"}), ("Shop", set(CATALOGUE))]
)
def test_a_zone_stays_in_its_pools(zone: str, models: set[str]) -> None:
    found = planned(router(retreat=()), job("hi", zone=zone))
    assert set(found) == models


@pytest.mark.parametrize("model", ["gpt", "big", "rented", "mixed", "coach"])
def test_also_if_a_model_is_asked_for_by_name(model: str) -> None:
    with pytest.raises(BadRequest) as refused:
        planned(router(), job("hi", zone="School", model=model))
    assert refused.value.code == "nowhere_allowed"
    assert planned(router(), job("hi", zone="School", model="small")) == ["small"]


def test_tasks_keys_callers_and_the_whole_house() -> None:
    tasks = {"essay": Task("small", stays=("onprem",)), "quiz": Task("small")}
    assert planned(router(tasks=tasks), job("hi", task="essay")) == ["small"]
    assert "big" in planned(router(tasks=tasks), job("hi", task="quiz"))
    assert planned(router(stays=("onprem",)), job("hi")) == ["small"]
    pinned = Job("job", job().kind, job().payload, caller=Caller(pools=("onprem",)))
    assert planned(router(), pinned) == ["small"]
    narrower = Job(
        "job", job().kind, job().payload, constraints=Constraints(pools=("spot",)), caller=Caller(pools=("onprem",))
    )
    with pytest.raises(BadRequest):
        planned(router(), narrower)


def test_a_key_for_several_zones_keeps_the_rules_of_all() -> None:
    """Else a request would leave the house by not saying where it comes from."""
    assert planned(router(), job("hi", zones=("School", "Shop"))) == ["small"]
    assert planned(router(), job("hi", zones=("School", "Shop"), zone="Shop"))[0] == "gpt"


def test_regions() -> None:
    far = Job("job", job().kind, job().payload, constraints=Constraints(regions=("kr",)))
    assert set(planned(router(retreat=()), far)) == set(CATALOGUE) - {"gpt"}


@pytest.mark.parametrize(
    "wrong",
    [{"zones": {"X": Zone(stays=("moon",))}}, {"stays": ("moon",)}, {"retreat": (Step("moon"),)}],
)
def test_pools_that_do_not_exist_are_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match="moon"):
        router(**wrong)


REMOTE = {"openai-gpt-4o-mini", "llama-3.1-70b-remote"}


@pytest.mark.parametrize("zone", ["UnivPrepAI", "mpcstudy.com", "My-Ktube.ai"])
def test_in_the_cluster_no_pupil_leaves_the_house(zone: str) -> None:
    cluster = load_profile("cluster").settings.router()
    for tier in Priority:
        found = planned(cluster, job("안녕하세요", zone=zone, priority=tier))
        assert found
        assert not REMOTE & set(found)


def test_in_the_cluster_others_leave_last_and_by_class() -> None:
    cluster = load_profile("cluster").settings.router()
    premium = planned(cluster, job("hello", zone="SkillPrepAI", priority=Priority.PREMIUM))
    assert premium[-2:] == ["llama-3.1-70b-remote", "openai-gpt-4o-mini"]
    assert planned(cluster, job("hello", zone="SkillPrepAI", priority=Priority.STANDARD))[-1] == "llama-3.1-70b-remote"
    assert not REMOTE & set(planned(cluster, job("hello", zone="SkillPrepAI", priority=Priority.BATCH)))
