"""One version is active, a stable share of callers gets the canary, and a switch is only data."""

from dataclasses import replace

import pytest

from serve_app.policies.routing import Router
from serve_app.policies.versions import Switch, by_version, choose
from serve_app.profile import load_profile
from serve_app.types import Caller, Chat, Job, Kind, Message, Wish


@pytest.fixture(scope="module")
def router() -> Router:
    """The embedded profile with a second version of its model."""
    settings = load_profile("embedded").settings
    model = settings.router().catalogue["nano-tutor"]
    models = [model, replace(model, version="2", engine="second")]
    return Router(settings.routing, {model.id: model}, settings.templates, by_version(models))


def job(user: str | None = None, model: str = "auto") -> Job:
    return Job(f"id-{user}", Kind.CHAT, Chat((Message("user", "1 + 1"),)), Caller(user=user), Wish(model))


def version(router: Router, asked: Job, switch: Switch | None = None) -> str:
    return router.decide(asked, {}, {"nano-tutor": switch} if switch else {})[0].decision.version


def test_the_first_of_the_profile_is_active_until_it_is_switched(router: Router) -> None:
    assert version(router, job()) == "1"
    assert version(router, job(), Switch(active="2")) == "2"
    assert version(router, job(), Switch(active="gone")) == "1"


def test_a_version_can_be_asked_for(router: Router) -> None:
    assert version(router, job(model="nano-tutor@2")) == "2"
    assert version(router, job(model="nano-tutor@1"), Switch(active="2")) == "1"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_canary_gets_its_share(router: Router, share: float) -> None:
    switch = Switch(active="1", canary="2", share=share)
    got = [version(router, job(f"user-{n}"), switch) for n in range(2_000)]
    assert abs(got.count("2") / len(got) - share) < 0.03


def test_a_caller_stays_with_a_version_and_a_larger_share_only_adds(router: Router) -> None:
    users = [f"user-{n}" for n in range(500)]

    def canaries(share: float) -> set[str]:
        return {u for u in users if version(router, job(u), Switch("1", "2", share)) == "2"}

    assert canaries(0.2) == canaries(0.2)
    assert canaries(0.2) < canaries(0.6)


def test_the_canary_is_said_in_the_reasons(router: Router) -> None:
    decision = router.decide(job("u"), {}, {"nano-tutor": Switch("1", "2", 1.0)})[0].decision
    assert decision.reasons[-1] == "canary 2"
    assert decision.engine == "second"


def test_choose_without_a_family_member_that_is_named() -> None:
    family = by_version([load_profile("embedded").settings.router().catalogue["nano-tutor"]])["nano-tutor"]
    assert choose(family, Switch("9", "8", 1.0), "me")[0].version == "1"
