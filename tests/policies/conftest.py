"""A small catalogue with one model of every sort, and jobs in one line."""

from dataclasses import replace
from typing import Any

import pytest

from serve_app.policies.prompting import Templates
from serve_app.policies.routing import Model, Router
from serve_app.policies.tables import Length, RoutingTables, Task, Trigger, Zone
from serve_app.types import Caller, Chat, Completion, Constraints, Job, Kind, Message, Payload, Sampling, Wish

CATALOGUE = {
    model.id: model
    for model in (
        Model("small", "small-engine", context_tokens=1_000),
        Model("large", "large-engine", context_tokens=8_000, stand_in="small", node_class="spot"),
        Model("coder", "coder-engine", context_tokens=8_000, stand_in="large"),
        Model("korean", "korean-engine", context_tokens=2_000),
        Model("seeing", "seeing-engine", kinds=frozenset({Kind.CHAT}), capabilities=frozenset({"vision", "json"})),
        Model("calling", "calling-engine", kinds=frozenset({Kind.CHAT}), capabilities=frozenset({"tools"})),
    )
}

TABLES = RoutingTables(
    default="small",
    aliases={"gpt-4o-mini": "auto", "big": "large", "exams": "Exams"},
    zones={
        "Exams": Zone(model="korean", hosts=("exams.kr",), tasks={"essay": "korean"}, template="tutor"),
        "Skills": Zone(model="large", hosts=("skills.kr", "skills.com")),
        "Dance": Zone(hosts=("dance.ai",)),
    },
    tasks={
        "essay": Task("small", premium="large"),
        "review": Task("big", template="code_review"),
        "filter": Task("small"),
    },
    domains={"code": Trigger("coder", patterns=("```",)), "math": Trigger("large", words=("방정식", "equation"))},
    keywords={
        "code": Trigger("coder", words=("code", "python", "c++", "코드")),
        "fast": Trigger("small", words=("fast", "빠른", "빠르게")),
    },
    length=Length(over_chars=2_000, model="large"),
    languages={"ko": "korean", "en": "small"},
)

TEMPLATES = Templates(
    budget_tokens=60,
    preamble={"ko": "튜터입니다.", "en": "You are a tutor."},
    tasks={
        "tutor": {"ko": "쉽게.", "en": "Explain."},
        "essay": {"ko": "첨삭하세요.", "en": "Correct it."},
        "code_review": {"en": "Review it."},
    },
)

WISHES = {"model", "zone", "task", "locale", "template", "host", "needs"}
CALLERS = {"tier", "zones", "tenant", "user"}
LIMITS = {"max_tokens", "temperature"}


def job(text: str = "hello", **about: Any) -> Job:
    """A chat that says `text`; the other arguments are fields of its wish, caller, sampling, constraints or itself."""
    sampling = Sampling(**{k: v for k, v in about.items() if k in LIMITS})
    payload: Payload = Chat((Message("user", text),), sampling)
    if about.get("kind") is Kind.COMPLETION:
        payload = Completion(text, sampling)
    return Job(
        id="job",
        kind=about.get("kind", Kind.CHAT),
        payload=about.get("payload", payload),
        caller=Caller(**{k: v for k, v in about.items() if k in CALLERS}),
        wish=Wish(**{k: v for k, v in about.items() if k in WISHES}),
        constraints=Constraints(**{k: v for k, v in about.items() if k in {"priority", "pools"}}),
    )


@pytest.fixture
def router() -> Router:
    return Router(TABLES, CATALOGUE, TEMPLATES)


def router_with(**changes: Any) -> Router:
    return Router(replace(TABLES, **changes), CATALOGUE, TEMPLATES)
