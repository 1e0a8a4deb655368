"""What a model cannot do, what is awake, and the properties of every decision."""

import itertools

import pytest

from serve_app.errors import BadRequest, Unavailable
from serve_app.policies.routing import Health, Router
from serve_app.types import Job, Kind
from tests.policies.conftest import CATALOGUE, job

STATES: tuple[Health, ...] = ("ready", "waking", "broken")
ENGINES = tuple(model.engine for model in CATALOGUE.values())


def models(router: Router, request: Job, **health: Health) -> list[str]:
    states = {f"{name}-engine": state for name, state in health.items()}
    return [candidate.decision.model for candidate in router.decide(request, states)]


def reasons(router: Router, request: Job, **health: Health) -> tuple[str, ...]:
    return router.decide(request, {f"{name}-engine": state for name, state in health.items()})[0].decision.reasons


def test_only_models_that_can_are_candidates(router: Router) -> None:
    assert models(router, job(needs=frozenset({"vision"}))) == ["seeing"]
    assert models(router, job(needs=frozenset({"vision", "json"}))) == ["seeing"]
    assert reasons(router, job(needs=frozenset({"vision"}))) == ("fallback", "small passed over: features")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (job(needs=frozenset({"logprobs"})), "No configured model supports logprobs"),
        (job(needs=frozenset({"logprobs", "vision"})), "No configured model supports logprobs"),
        (job(needs=frozenset({"tools", "vision"})), "No configured model supports tools, vision together"),
        (job(model="small", needs=frozenset({"tools"})), "The model small does not support tools"),
        (job(kind=Kind.COMPLETION, needs=frozenset({"tools"})), "No configured model supports tools"),
    ],
)
def test_what_no_model_can_do_is_refused_by_name(router: Router, request_: Job, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        router.decide(request_, {})


def test_kind(router: Router) -> None:
    assert "seeing" not in models(router, job(kind=Kind.COMPLETION))
    with pytest.raises(BadRequest, match="seeing does not answer requests of the kind 'completion'"):
        router.decide(job(kind=Kind.COMPLETION, model="seeing"), {})


def test_pools(router: Router) -> None:
    assert models(router, job(pools=("spot",))) == ["large"]
    with pytest.raises(BadRequest, match="has to: moon"):
        router.decide(job(pools=("moon",)), {})


def test_a_prompt_that_may_not_fit_goes_where_it_surely_does(router: Router) -> None:
    assert models(router, job("hello", max_tokens=900))[0] == "small"
    assert models(router, job("hello", max_tokens=999))[0] == "large"
    assert models(router, job("hello", max_tokens=1_001))[0] == "large"


def test_a_large_max_tokens_is_an_upper_bound_and_no_reason_to_refuse(router: Router) -> None:
    assert models(router, job("hello", max_tokens=9_000, model="small")) == ["small"]


def test_the_instruction_counts(router: Router) -> None:
    plain = job("hello", max_tokens=985, model="small", template="none")
    assert models(router, plain) == ["small"]
    assert models(router, job("hello " * 120, max_tokens=800, task="filter", template="tutor"))[0] == "large"


def test_what_fits_nowhere_is_refused(router: Router) -> None:
    with pytest.raises(BadRequest, match="8000 tokens") as caught:
        router.decide(job("word " * 40_000), {})
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(BadRequest, match="small, 1000 tokens"):
        router.decide(job("word " * 8_000, model="small"), {})


def test_a_doubtful_prompt_is_left_to_the_engine(router: Router) -> None:
    assert models(router, job("가" * 600, model="small")) == ["small"]


def test_a_waking_model_is_preceded_by_its_stand_in(router: Router) -> None:
    request = job("write python")
    assert models(router, request, coder="waking")[0] == "large"
    assert reasons(router, request, coder="waking") == ("keyword=code", "coder is waking; large stands in")
    assert "coder" in models(router, request, coder="waking")


def test_without_its_stand_in_the_next_ready_one_goes_first(router: Router) -> None:
    request = job("write python")
    assert reasons(router, request, coder="waking", large="waking") == (
        "keyword=code",
        "coder is waking; small stands in",
    )
    assert models(router, request, coder="waking", large="broken")[0] == "small"


def test_broken_models_are_out(router: Router) -> None:
    request = job("write python")
    assert "coder" not in models(router, request, coder="broken")
    assert reasons(router, request, coder="broken") == ("keyword=code", "coder is down; large stands in")


def test_a_model_asked_for_is_waited_for(router: Router) -> None:
    assert models(router, job(model="coder"), coder="waking") == ["coder"]
    assert reasons(router, job(model="coder"), coder="waking") == ("model=coder", "coder is waking")
    with pytest.raises(Unavailable, match="coder is down"):
        models(router, job(model="coder"), coder="broken")


def test_nothing_ready(router: Router) -> None:
    asleep: dict[str, Health] = dict.fromkeys(CATALOGUE, "waking")
    down: dict[str, Health] = dict.fromkeys(CATALOGUE, "broken")
    assert reasons(router, job(), **asleep) == ("language=en", "small is waking")
    with pytest.raises(Unavailable, match="down"):
        models(router, job(), **down)


REQUESTS = [
    job(),
    job("write python"),
    job("안녕", zone="Exams"),
    job(task="essay", max_tokens=1_500),
    job(needs=frozenset({"vision"})),
    job("a" * 3_000),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_properties_of_every_decision(router: Router, request_: Job) -> None:
    for states in itertools.product(STATES, repeat=len(ENGINES)):
        health = dict(zip(ENGINES, states, strict=True))
        fitting = {c.decision.engine for c in router.decide(request_, {})}
        alive = {engine for engine in fitting if health[engine] != "broken"}
        if not alive:
            with pytest.raises(Unavailable):
                router.decide(request_, health)
            continue
        candidates = router.decide(request_, health)
        assert candidates == router.decide(request_, health)
        decisions = [candidate.decision for candidate in candidates]
        assert {d.engine for d in decisions} == alive
        assert len({d.model for d in decisions}) == len(decisions)
        if any(health[engine] == "ready" for engine in alive):
            assert health[decisions[0].engine] == "ready"
        for decision in decisions:
            assert decision.reasons
            assert all(reason.isascii() and reason.isprintable() for reason in decision.reasons)
            assert set(decision.alternatives) == {d.model for d in decisions} - {decision.model}
