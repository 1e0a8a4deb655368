"""The plan's tables, row by row, against the cluster's profile; and what every profile must have."""

import pytest

from serve_app.policies.prompting import estimate_tokens
from serve_app.policies.routing import Router
from serve_app.profile import PROFILES as FOLDER
from serve_app.profile import load_profile
from serve_app.types import Decision, Job, Priority
from tests.policies.conftest import job

PROFILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ZONES = ["UnivPrepAI", "SkillPrepAI", "My-Ktube.ai", "mpcstudy.com", "DreamSeedAI.com"]
PRO, STANDARD, BATCH = Priority.PREMIUM, Priority.STANDARD, Priority.BATCH
SIZES = {
    "7B": "qwen2.5-7b-instruct",
    "14B": "qwen2.5-14b-instruct",
    "32B": "qwen2.5-32b-instruct",
    "72B": "qwen2.5-72b-instruct",
}


@pytest.fixture(scope="module")
def cluster() -> Router:
    return load_profile("cluster").settings.router()


def first(router: Router, request: Job) -> Decision:
    return router.decide(request, {})[0].decision


@pytest.mark.parametrize(
    ("zone", "model"),
    [
        ("UnivPrepAI", "seoul-medium-kr"),
        ("SkillPrepAI", "qwen2.5-32b-instruct"),
        ("mpcstudy.com", "llama-3.1-8b-instruct"),
        ("DreamSeedAI.com", "qwen2.5-72b-instruct"),
    ],
)
def test_zones(cluster: Router, zone: str, model: str) -> None:
    assert first(cluster, job("안녕", zone=zone)).model == model
    assert first(cluster, job("안녕", host=f"www.{zone.removesuffix('.com')}.com")).model == model


def test_the_dance_site_has_no_chat_model_of_its_own(cluster: Router) -> None:
    assert first(cluster, job("안녕", zone="My-Ktube.ai")).model == "llama-3-open-ko-8b"


@pytest.mark.parametrize(
    ("task", "tier", "size"),
    [
        *((task, tier, "7B") for task in ("classification", "qa", "filter") for tier in Priority),
        *((task, tier, "14B") for task in ("essay_feedback", "math_tutor") for tier in (STANDARD, BATCH)),
        *((task, PRO, "32B") for task in ("essay_feedback", "math_tutor")),
        *((task, tier, "32B") for task in ("advanced_reasoning", "code_review") for tier in (STANDARD, BATCH)),
        *((task, PRO, "72B") for task in ("advanced_reasoning", "code_review")),
        ("motion_feedback", STANDARD, "7B"),
    ],
)
def test_task_and_tier(cluster: Router, task: str, tier: Priority, size: str) -> None:
    assert first(cluster, job("안녕", task=task, tier=tier)).model == SIZES[size]
    assert first(cluster, job("안녕", task=task, tier=tier, zone="SkillPrepAI")).model == SIZES[size]


def test_essays_of_the_exam_site_go_to_its_essay_tutor(cluster: Router) -> None:
    decision = first(cluster, job("이 글 어때?", task="essay_feedback", tier=PRO, zone="UnivPrepAI"))
    assert (decision.model, decision.template) == ("seoul-medium-kr", "essay_feedback.ko")


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("오늘 날씨 어때?", "llama-3-open-ko-8b"),
        ("今日の天気はどうですか", "llama-3-elyza-jp-8b"),
        ("How is the weather?", "qwen2.5-7b-instruct"),
        ("今天天气怎么样", "qwen2.5-7b-instruct"),
        ("3x + 5 = 20", "deepseek-math-7b-instruct"),
        ("이차방정식 말고 방정식 하나 내 줘", "deepseek-math-7b-instruct"),
        (r"$\frac{1}{2}$ 더하기 $\sqrt{2}$", "deepseek-math-7b-instruct"),
        ("def add(a, b):\n    return a + b", "deepseek-coder-6.7b-instruct"),
        ("왜 안 되지?\n```\nx\n```", "deepseek-coder-6.7b-instruct"),
        ("import os\n뭐가 문제야", "deepseek-coder-6.7b-instruct"),
    ],
)
def test_language_and_domain(cluster: Router, text: str, model: str) -> None:
    assert first(cluster, job(text)).model == model


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("가 " * 1_001, "llama-3.1-70b-instruct"),
        ("python으로 정렬 함수 짜줘", "qwen2.5-coder-7b-instruct"),
        ("코드 좀 봐줘", "qwen2.5-coder-7b-instruct"),
        ("review my JavaScript", "qwen2.5-coder-7b-instruct"),
        ("give me a fast answer", "phi-3-mini-4k-instruct"),
        ("빠른 답 부탁해", "phi-3-mini-4k-instruct"),
        ("I had breakfast", "qwen2.5-7b-instruct"),
        ("Привет", "mistral-7b-instruct"),
        ("😀", "mistral-7b-instruct"),
    ],
)
def test_length_and_keyword(cluster: Router, text: str, model: str) -> None:
    assert first(cluster, job(text)).model == model


@pytest.mark.parametrize("alias", ["general70", "code", "fast", "general"])
def test_the_plans_names_are_models_too(cluster: Router, alias: str) -> None:
    assert first(cluster, job(model=alias)).model in cluster.catalogue


def test_where_models_live(cluster: Router) -> None:
    where = {model.id: model.node_class for model in cluster.catalogue.values() if model.node_class != "onprem"}
    assert where == {
        "qwen2.5-72b-instruct": "spot",
        "llama-3.1-70b-instruct": "spot",
        "llama-3.1-70b-remote": "remote",
        "openai-gpt-4o-mini": "openai",
    }


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_knows_the_sites_the_tasks_and_the_stock_names(name: str) -> None:
    router = load_profile(name).settings.router()
    for zone in ZONES:
        assert first(router, job(zone=zone)).model
        assert first(router, job(host=next(iter(router.tables.zones[zone].hosts)))).model
    for task in ("classification", "qa", "filter", "essay_feedback", "math_tutor", "advanced_reasoning", "code_review"):
        assert first(router, job(task=task)).model
    for stock in ("gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo", "auto"):
        assert first(router, job(model=stock)).model


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_the_tasks_templates_in_both_languages(name: str) -> None:
    templates = load_profile(name).settings.templates
    for task in ("essay_feedback", "math_tutor", "code_review", "motion_feedback"):
        assert {"ko", "en"} <= set(templates.tasks[task])
        for language in ("ko", "en"):
            assert estimate_tokens(templates.instruction(task, language).text) < 200


def test_embedded_ends_at_the_nano_tutor() -> None:
    router = load_profile("embedded").settings.router()
    assert set(router.tables.models().values()) == {"nano-tutor"}


def test_the_workstation_fits_one_card() -> None:
    engines = load_profile("workstation").settings.engines.values()
    assert sum(engine.resources.gpu for engine in engines) <= 1
