"""Templates: which one, what it says, and that it stays within its budget."""

import pytest
from pydantic import TypeAdapter, ValidationError

from serve_app.policies.prompting import SAMPLE_CHARS, Templates, estimate_tokens
from serve_app.policies.routing import Router
from serve_app.types import Chat, Job, Kind, Message
from tests.policies.conftest import job


@pytest.mark.parametrize(
    ("request_", "template"),
    [
        (job(task="essay"), "essay.en"),
        (job("첨삭해 주세요", task="essay"), "essay.ko"),
        (job("添削してください", task="essay"), "essay.en"),
        (job("12", task="essay"), "essay.en"),
        (job("hello", task="essay", locale="ko-KR"), "essay.ko"),
        (job(task="review"), "code_review.en"),
        (job("고쳐줘", task="review"), "code_review.en"),
        (job(task="filter"), None),
        (job(zone="Exams"), "tutor.en"),
        (job(zone="Exams", task="filter"), None),
        (job(zone="Skills"), None),
        (job(), None),
        (job(template="tutor"), "tutor.en"),
        (job(template="Tutor.KO"), "tutor.ko"),
        (job(task="essay", template="tutor"), "tutor.en"),
        (job(task="essay", template="none"), None),
        (job(task="essay", model="large"), "essay.en"),
        (job(task="essay", kind=Kind.COMPLETION), None),
    ],
)
def test_the_template_of_a_decision(router: Router, request_: Job, template: str | None) -> None:
    assert router.decide(request_, {})[0].decision.template == template


def test_the_instruction_comes_before_the_callers_own(router: Router) -> None:
    own = (Message("system", "Be brief."), Message("user", "hello"))
    request = job(task="essay", payload=Chat(own))
    seen = router.decide(request, {})[0].apply(request)
    assert seen.model == "small"
    assert isinstance(seen.payload, Chat)
    assert seen.payload.messages == (Message("system", "You are a tutor.\nCorrect it."), *own)
    assert request.payload == Chat(own)


def test_without_a_template_only_the_model_is_set(router: Router) -> None:
    request = job()
    seen = router.decide(request, {})[0].apply(request)
    assert (seen.model, seen.payload) == ("small", request.payload)
    completion = job(kind=Kind.COMPLETION, task="essay")
    assert router.decide(completion, {})[0].apply(completion).payload == completion.payload


def test_the_preamble_comes_first_so_that_prefixes_are_shared(router: Router) -> None:
    texts = [router.templates.instruction(name, "ko").text for name in ("tutor", "essay")]
    assert all(text.startswith("튜터입니다.\n") for text in texts)


def test_a_template_over_its_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"templates\.tasks\.long\.ko: about 120 tokens .* under 100; shorten"):
        Templates(budget_tokens=100, tasks={"long": {"en": "short", "ko": "가" * 60}})
    with pytest.raises(ValueError, match="about 100 tokens"):
        Templates(budget_tokens=100, preamble={"en": "word " * 60}, tasks={"long": {"en": "word " * 39}})


def test_a_template_without_the_fallback_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'en'; add one"):
        Templates(tasks={"tutor": {"ko": "쉽게."}})


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="budget"):
        TypeAdapter(Templates).validate_python({"budget": 3})


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("word", 1), ("words", 2), ("a b", 2), ("12", 2), ("가나", 4), ("日本", 4), ("a\n\nb", 3), ("hi!", 2)],
)
def test_estimate(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_a_long_text_is_judged_by_its_start() -> None:
    assert estimate_tokens("가" * SAMPLE_CHARS * 10) == SAMPLE_CHARS * 20
