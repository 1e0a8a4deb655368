"""What callers get: the bodies of answers, as the published description states them."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from serve_app.policies.pricing import TYPICAL_ANSWER_TOKENS
from serve_app.policies.routing import Health
from serve_app.types import Priority

Tier = Literal["priority", "default", "flex"]
PriorityName = Literal["premium", "standard", "batch"]

TIER_NAMES: Mapping[Priority, Tier] = {
    Priority.PREMIUM: "priority",
    Priority.STANDARD: "default",
    Priority.BATCH: "flex",
}
PRIORITY_NAMES: Mapping[Priority, PriorityName] = {
    Priority.PREMIUM: "premium",
    Priority.STANDARD: "standard",
    Priority.BATCH: "batch",
}


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Every error of every route."""

    error: Error


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class PromptTokensDetails(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    cost_usd: float = Field(description="US dollars, exact to nine decimals.")
    estimated: bool = Field(False, description="Whether the tokens are an estimate, because nobody has counted them.")


class CalledFunction(BaseModel):
    name: str
    arguments: str = Field(description="JSON that the tool's schema allows, unless `finish_reason` is `length`.")


class ToolCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: str


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: None
    finish_reason: str | None


class Completed(BaseModel):
    id: str
    created: int
    model: str = Field(description="The model that answered, whatever name was asked for.")
    system_fingerprint: str | None = Field(description="The model's version.")
    service_tier: Tier
    usage: Usage


class ChatCompletion(Completed):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(Completed):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class RouteDecision(BaseModel):
    """Where a request would go and why."""

    engine: str
    model: str
    version: str
    node_class: str
    template: str | None
    priority: PriorityName
    reasons: list[str]
    alternatives: list[str] = Field(description="Models that would answer if this one could not, best first.")
    zone: str | None
    estimated_cost_usd: float = Field(
        description="By the model's price, for the estimated tokens of the prompt and an answer of `max_tokens` tokens,"
        f" or of {TYPICAL_ANSWER_TOKENS} if there is no `max_tokens`. Exact to nine decimals."
    )


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    engines: dict[str, Health]


class NotReady(ErrorEnvelope):
    status: Literal["unavailable"] = "unavailable"
    engines: dict[str, Health]


class CostRow(BaseModel):
    """What one group of requests used and cost; it is named under the key of the grouping, `null` if it has no name."""

    model: str | None = None
    tenant: str | None = None
    user: str | None = None
    zone: str | None = None
    engine: str | None = None
    key: str | None = None
    node_class: str | None = None
    day: str | None = None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    engine_s: float = Field(description="Time in which these requests held slots of engines.")
    audio_s: float = Field(description="Sound that was heard or spoken.")
    frames: int
    characters: int = Field(description="Text that was spoken.")
    cost_usd: float = Field(description="Exact to nine decimals.")
    saved_usd: float = Field(description="What answers from the cache would have cost.")


class CostReport(BaseModel):
    group_by: str
    data: list[CostRow]
    total_usd: float


class KeyCard(BaseModel):
    """A key without its secret. Times are in seconds since the epoch."""

    id: str
    object: Literal["api_key"] = "api_key"
    prefix: str = Field(description="The first letters of its secret, so that people can tell their keys apart.")
    tenant: str
    name: str
    tier: PriorityName
    zones: list[str] = Field(description="Empty: every zone.")
    scopes: list[str]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    budget_usd: float | None
    created: int
    expires: int | None
    revoked: int | None
    in_force: bool


class VersionCard(BaseModel):
    """A model's versions, and which are in force. `previous` is what a rollback returns to."""

    id: str
    object: Literal["model.versions"] = "model.versions"
    versions: list[str]
    active: str
    canary: str | None
    share: float = Field(description="The canary's part of the callers, from 0 to 1.")
    previous: str | None


class VersionList(BaseModel):
    object: Literal["list"] = "list"
    data: list[VersionCard]


class NewKey(KeyCard):
    secret: str = Field(description="The key to send. It is shown this once and kept nowhere.")


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyCard]
