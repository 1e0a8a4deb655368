"""Which rule decides, and what it says about itself."""

import pytest

from serve_app.errors import BadRequest, Forbidden, ModelNotFound
from serve_app.policies.routing import Router, route_header
from serve_app.policies.tables import RoutingTables, Trigger
from serve_app.types import Chat, Decision, Job, Message, Priority
from tests.policies.conftest import job, router_with

PREMIUM = Priority.PREMIUM


def first(router: Router, request: Job) -> Decision:
    return router.decide(request, {})[0].decision


@pytest.mark.parametrize(
    ("request_", "model", "reason"),
    [
        (job(model="large"), "large", "model=large"),
        (job(model="LARGE"), "large", "model=large"),
        (job(model="big"), "large", "model=large"),
        (job(model="big", zone="Exams", task="essay"), "large", "model=large"),
        (job(model="auto"), "small", "language=en"),
        (job(model=""), "small", "language=en"),
        (job(model="gpt-4o-mini"), "small", "language=en"),
        (job(model="exams"), "korean", "zone=Exams"),
        (job(model="Skills"), "large", "zone=Skills"),
        (job(zone="Exams"), "korean", "zone=Exams"),
        (job(zone="exams"), "korean", "zone=Exams"),
        (job(zone="Exams", task="essay", tier=PREMIUM), "korean", "zone=Exams task=essay"),
        (job(zone="Exams", task="filter"), "small", "task=filter tier=standard"),
        (job(zone="Skills", task="essay"), "small", "task=essay tier=standard"),
        (job(zone="Dance"), "small", "language=en"),
        (job("안녕", zone="Dance"), "korean", "language=ko"),
        (job(host="exams.kr"), "korean", "zone=Exams"),
        (job(host="WWW.Exams.kr:443"), "korean", "zone=Exams"),
        (job(host="exams.kr.evil.com"), "small", "language=en"),
        (job(host="notexams.kr"), "small", "language=en"),
        (job(host="[::1]:8000"), "small", "language=en"),
        (job(zone="Skills", host="exams.kr"), "large", "zone=Skills"),
        (job(zones=("Exams",)), "korean", "zone=Exams"),
        (job(zones=("Exams", "Skills")), "small", "language=en"),
        (job(task="essay"), "small", "task=essay tier=standard"),
        (job(task="Essay", tier=PREMIUM), "large", "task=essay tier=premium"),
        (job(task="essay", tier=Priority.BATCH), "small", "task=essay tier=batch"),
        (job(task="filter", tier=PREMIUM), "small", "task=filter tier=premium"),
        (job("```x```"), "coder", "domain=code"),
        (job("이 방정식을 풀어줘"), "large", "domain=math"),
        (job("python으로 정렬 함수 짜줘"), "coder", "keyword=code"),
        (job("C++ please"), "coder", "keyword=code"),
        (job("빠른 답을 원해"), "small", "keyword=fast"),
        (job("빠르게 답해줘"), "small", "keyword=fast"),
        (job("\u1108\u1161\u1105\u1173\u11ab 답"), "small", "keyword=fast"),
        (job("be fast"), "small", "keyword=fast"),
        (job("What is for breakfast?"), "small", "language=en"),
        (job("바코드가 뭐야?"), "korean", "language=ko"),
        (job("a" * 2_001), "large", "length>2000"),
        (job("a" * 2_000), "small", "language=en"),
        (job("hello", locale="ko-KR"), "korean", "language=ko"),
        (job("안녕", locale="*"), "korean", "language=ko"),
        (job("Привет"), "small", "default"),
        (job("12345"), "small", "default"),
        (job(""), "small", "default"),
    ],
)
def test_the_rule_that_decides(router: Router, request_: Job, model: str, reason: str) -> None:
    decision = first(router, request_)
    assert (decision.model, decision.reasons[0]) == (model, reason)


def test_words_count_at_the_end_of_a_long_prompt_too(router: Router) -> None:
    assert first(router, job("a " * 20_000 + "python")).reasons[0] == "keyword=code"


def test_only_the_last_user_message_is_looked_at(router: Router) -> None:
    chat = Chat(
        (
            Message("user", "write python"),
            Message("assistant", "x"),
            Message("user", "thanks"),
            Message("system", "fast"),
        )
    )
    assert first(router, job(payload=chat)).reasons[0] == "language=en"


def test_precedence_is_data() -> None:
    prompt = job("빠른 파이썬 말고 python", zone="Exams")
    assert first(router_with(order=("model", "keyword", "zone", "default")), prompt).reasons[0] == "keyword=code"
    assert first(router_with(order=("model", "default", "zone")), prompt).reasons[0] == "default"


def test_later_rules_are_the_alternatives(router: Router) -> None:
    decision = first(router, job("```python fast```", task="review"))
    assert decision.model == "large"
    assert decision.alternatives[:2] == ("coder", "small")
    assert set(decision.alternatives) == {"coder", "small", "korean", "seeing", "calling"}


def test_a_model_asked_for_has_no_alternatives(router: Router) -> None:
    assert len(router.decide(job(model="large"), {})) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lage", "Did you mean 'large'?"), ("gpt-4o", "Did you mean 'gpt-4o-mini'?"), ("zzzz", "does not exist. GET")],
)
def test_an_unknown_model_is_not_found(router: Router, name: str, hint: str) -> None:
    with pytest.raises(ModelNotFound, match="GET /v1/models") as caught:
        router.decide(job(model=name), {})
    assert hint in caught.value.message
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


@pytest.mark.parametrize(
    ("request_", "param", "listed"),
    [
        (job(zone="Nowhere"), "metadata.zone", "Exams, Skills, Dance"),
        (job(task="cooking"), "metadata.task", "essay, review, filter"),
        (job(template="poem"), "metadata.template", "tutor.ko, tutor.en"),
        (job(template="code_review.ko"), "metadata.template", "code_review.en"),
        (job(zone=""), "metadata.zone", "Exams"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_exist(
    router: Router, request_: Job, param: str, listed: str
) -> None:
    with pytest.raises(BadRequest, match=listed) as caught:
        router.decide(request_, {})
    assert caught.value.param == param


@pytest.mark.parametrize("how", [{"zone": "Skills"}, {"host": "skills.kr"}, {"model": "skills"}])
def test_a_zone_that_the_key_is_not_for_is_forbidden(router: Router, how: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="Skills"):
        router.decide(job(zones=("Exams", "Dance"), **how), {})
    assert first(router, job(zones=("exams", "SKILLS"), **how)).model == "large"


def test_the_decision_carries_what_the_catalogue_knows(router: Router) -> None:
    decision = first(router, job(model="large", priority=Priority.BATCH))
    assert (decision.engine, decision.version, decision.node_class) == ("large-engine", "1", "spot")
    assert decision.priority is Priority.BATCH


def test_the_header_is_short_and_ascii(router: Router) -> None:
    assert route_header(first(router, job(task="essay"))) == "task=essay,tier=standard -> small"
    stand_in = router.decide(job("write python"), {"coder-engine": "waking"})[0].decision
    assert route_header(stand_in) == "keyword=code -> large (coder is waking; large stands in)"
    long = Decision("e", "m" * 300, "1", "onprem", reasons=("언어",))
    assert len(route_header(long)) == 200
    assert route_header(long).isascii()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"default": "nothing"}, "routing.default: no engine serves 'nothing'"),
        ({"languages": {"ko": "nothing"}}, "routing.languages.ko"),
        ({"aliases": {"big": "large", "x": "nothing"}}, "routing.aliases.x"),
        ({"aliases": {"big": "large", "small": "large"}}, "a model has that name"),
        ({"keywords": {"bad": Trigger("small", patterns=("(",))}}, "patterns of 'bad'"),
        ({"keywords": {"빠른": Trigger("small")}}, "ASCII"),
    ],
)
def test_tables_that_name_what_is_not_there_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        router_with(**changes)


def test_the_order_starts_with_what_was_asked_for() -> None:
    with pytest.raises(ValueError, match=r"routing\.order"):
        RoutingTables(default="small", order=("default",))
