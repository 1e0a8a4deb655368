"""What callers send: the request bodies of the OpenAI API, as far as they mean something here.

Unknown fields are let through unread; known ones must have the right type. Bounds that a profile may change are kept
by `jobs.py`, which turns these shapes into jobs.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from serve_app.policies.limits import RANGES

LARGEST_BIAS = RANGES["logit_bias"].most


def _within(name: str) -> Any:
    return Field(ge=RANGES[name].least, le=RANGES[name].most)


def _as_long_as(name: str) -> Any:
    return Field(min_length=int(RANGES[name].least), max_length=int(RANGES[name].most))


def _whole(value: object) -> object:
    """JSON knows one kind of number: 2.0 is an integer too. Beyond 2^53 a float no longer says which one was meant."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


def _one_or_many(value: object) -> str:
    return "many" if isinstance(value, list) else "one"


def _biases(value: dict[str, Any]) -> dict[str, float]:
    for bias in value.values():
        if isinstance(bias, bool) or not isinstance(bias, int | float) or abs(bias) > LARGEST_BIAS:
            raise PydanticCustomError("bias", "should map token ids to numbers from -100 to 100")
    return value


T = TypeVar("T")
OneOrMany = Annotated[
    Annotated[T, Tag("one")] | Annotated[list[T], Field(min_length=1), Tag("many")], Discriminator(_one_or_many)
]
Count = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Rate = Annotated[int, _within("requests_per_minute"), BeforeValidator(_whole)]
Integer64 = Annotated[int, _within("seed"), BeforeValidator(_whole)]
Penalty = Annotated[float, _within("frequency_penalty")]
Name = Annotated[str, _as_long_as("model")]
StopString = Annotated[str, _as_long_as("stop")]


class Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class StreamOptions(Wire):
    include_usage: bool | None = None


class Metadata(Wire):
    """Hints for the router; any other key is the caller's own."""

    zone: Name | None = None
    task: Name | None = None
    locale: Name | None = None
    template: Name | None = None


class Generation(Wire):
    """What chat and text completions have in common."""

    model: Name = Field(description='A model\'s id, an alias, or "auto" to let the router choose.')
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, _within("temperature")] | None = None
    top_p: Annotated[float, _within("top_p")] | None = None
    seed: Integer64 | None = None
    stop: OneOrMany[StopString] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Any], AfterValidator(_biases)] | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = Field(
        None, description="Can only lower the priority of the key."
    )
    metadata: Metadata | None = None


class TextPart(Wire):
    type: Literal["text"]
    text: str


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: str


class MediaUrl(Wire):
    url: str


class AudioData(Wire):
    data: str
    format: str


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(Wire):
    type: Literal["video_url"]
    video_url: MediaUrl


class AudioPart(Wire):
    type: Literal["input_audio"]
    input_audio: AudioData


class FilePart(Wire):
    type: Literal["file"]
    file: dict[str, Any]


Part = Annotated[
    TextPart | RefusalPart | ImagePart | VideoPart | AudioPart | FilePart,
    Field(discriminator="type"),
]
Content = Annotated[
    Annotated[str, Tag("one")] | Annotated[list[Part], Field(min_length=1), Tag("many")], Discriminator(_one_or_many)
]


class Instruction(Wire):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Wire):
    role: Literal["user"]
    content: Content
    name: str | None = None


class CalledFunction(Wire):
    name: str
    arguments: str


class ToolCall(Wire):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Wire):
    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(Wire):
    role: Literal["tool"]
    content: Content
    tool_call_id: str


ChatMessage = Annotated[Instruction | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(Wire):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of the arguments.")
    strict: bool | None = None


class Tool(Wire):
    type: Literal["function"]
    function: Function


class JsonSchema(Wire):
    name: FunctionName
    description: str | None = None
    definition: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class NamedFunction(Wire):
    name: str


class FunctionChoice(Wire):
    type: Literal["function"]
    function: NamedFunction


class Allowed(Wire):
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Field(min_length=1)]


class AllowedTools(Wire):
    type: Literal["allowed_tools"]
    allowed_tools: Allowed


ToolChoice = Annotated[FunctionChoice | AllowedTools, Field(discriminator="type")]


def _named_or_object(value: object) -> str:
    return "object" if isinstance(value, dict) else "name"


class ChatRequest(Generation):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    tools: Annotated[list[Tool], _as_long_as("tools")] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag("name")] | Annotated[ToolChoice, Tag("object")],
            Discriminator(_named_or_object),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, _within("top_logprobs"), BeforeValidator(_whole)] | None = None
    modalities: list[Literal["text", "audio"]] | None = None


class CompletionRequest(Generation):
    """The body of `POST /v1/completions`."""

    prompt: OneOrMany[str]
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, _within("logprobs"), BeforeValidator(_whole)] | None = None


class RouteRequest(ChatRequest):
    """The body of `POST /api/v1/ai/route`: a chat request, where even the model may be left out."""

    model: Name = "auto"


class Administration(Wire):
    """Bodies that change what others may do: a field that is not known is refused rather than overlooked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class KeyRequest(Administration):
    """The body of `POST /api/v1/admin/keys`."""

    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    name: Annotated[str, Field(max_length=128)] = ""
    tier: Literal["premium", "standard", "batch"] = "standard"
    zones: Annotated[list[Name], Field(max_length=64)] = []
    scopes: Annotated[list[Name], Field(min_length=1, max_length=64)] = ["inference"]
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    budget_usd: Annotated[float, Field(ge=0, le=1e9)] | None = None
    expires_in_s: Rate | None = None


class VersionRequest(Administration):
    """The body of `POST /api/v1/admin/models/{model}/activate`."""

    version: Name


class CanaryRequest(VersionRequest):
    """The body of `POST /api/v1/admin/models/{model}/canary`."""

    share: Annotated[float, Field(ge=0, le=1)] = Field(description="The part of the callers, from 0 to 1.")


class RotateRequest(Administration):
    """The body of `POST /api/v1/admin/keys/{id}/rotate`."""

    overlap_s: Annotated[int, _within("overlap_s"), BeforeValidator(_whole)] = Field(
        0, description="For so long the old key stays in force beside the new one."
    )
