"""The vocabulary: what a request is, what an answer is made of, and what was decided about it.

Everything between the doors and the engines speaks these shapes and no others. They are frozen, so a stage that
wants to change a job makes a new one with `dataclasses.replace`.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum, StrEnum


class Kind(StrEnum):
    """What a job asks an engine to do."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    TRANSCRIPTION = "transcription"
    PRONUNCIATION = "pronunciation"
    SPEECH = "speech"
    POSE = "pose"
    DANCE = "dance"
    DOCUMENTS = "documents"
    RETRIEVAL = "retrieval"
    COACHING = "coaching"


class Priority(IntEnum):
    """Lower goes first."""

    PREMIUM = 0
    STANDARD = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Media:
    """A file that a caller sent: bytes on the disk of this node, not yet looked at. They are `sha256`, in hex.

    `media_type` is what the caller says, or empty. Two media are the same if their bytes are, wherever they lie.
    """

    path: str = field(compare=False)
    sha256: str
    size: int
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. `parameters` is the JSON Schema of its arguments, as JSON text."""

    name: str
    description: str = ""
    parameters: str = '{"type": "object", "properties": {}}'
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model has asked for. `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What the text of an answer has to be: `text`, `json_object` or `json_schema`, with its schema as JSON text."""

    type: str = "text"
    schema: str = ""
    name: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. What `media` holds comes before the text; `tool_call_id` says which call a tool's turn answers."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    media: tuple[Media, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. `None` means the model's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """What is added to the scores of tokens, by their ids."""

    @property
    def repeatable(self) -> bool:
        """Without a temperature the model's own default holds, which may sample."""
        return self.temperature == 0 or self.seed is not None


class Payload:
    """What a job is about. Every kind of job has its own; what the stages ask of any of them is here."""

    __slots__ = ()
    sampling = Sampling()

    @property
    def text(self) -> str:
        """What routing rules look at."""
        return ""

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that a language model would have to read."""
        return (self.text,)

    @property
    def attachments(self) -> tuple[Media, ...]:
        """Files that a language model would have to look at or listen to, beside the texts."""
        return ()

    @property
    def repeatable(self) -> bool:
        """Whether the same question has the same answer, so that it may be kept."""
        return True


@dataclass(frozen=True, slots=True)
class Chat(Payload):
    """`tool_choice` is `auto`, `none` or `required`. Who wants one certain tool is given no other to choose from."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat = ResponseFormat()

    @property
    def text(self) -> str:
        """The last user message."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def texts(self) -> tuple[str, ...]:
        said = [message.content for message in self.messages]
        called = [text for m in self.messages for call in m.tool_calls for text in (call.name, call.arguments)]
        offered = [text for tool in self.tools for text in (tool.name, tool.description, tool.parameters)]
        return (*said, *called, *offered, *filter(None, [self.response_format.schema]))

    @property
    def attachments(self) -> tuple[Media, ...]:
        return tuple(media for message in self.messages for media in message.media)

    @property
    def repeatable(self) -> bool:
        return self.sampling.repeatable


@dataclass(frozen=True, slots=True)
class Completion(Payload):
    prompt: str
    sampling: Sampling = Sampling()

    @property
    def text(self) -> str:
        return self.prompt

    @property
    def repeatable(self) -> bool:
        return self.sampling.repeatable


@dataclass(frozen=True, slots=True)
class Landmarks:
    """A recorded movement, as `deployments/motion` writes and reads it."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Embedding(Payload):
    """Answered by one artifact `embeddings`: little-endian float32, row by row, one row per text."""

    inputs: tuple[str, ...]
    dimensions: int | None = None

    @property
    def text(self) -> str:
        return self.inputs[0] if self.inputs else ""

    @property
    def texts(self) -> tuple[str, ...]:
        return self.inputs


@dataclass(frozen=True, slots=True)
class Transcription(Payload):
    """Answered by deltas, a piece of text each, and an artifact `transcript` (JSON: segments, words, language)."""

    audio: Media
    language: str | None = None
    prompt: str = ""
    temperature: float = 0.0
    words: bool = False
    vad: bool = True
    translate: bool = False

    @property
    def text(self) -> str:
        return self.prompt


@dataclass(frozen=True, slots=True)
class Pronunciation(Payload):
    """Answered by an artifact `pronunciation` (JSON)."""

    audio: Media
    reference: str
    language: str = "ko"

    @property
    def text(self) -> str:
        return self.reference


@dataclass(frozen=True, slots=True)
class Speech(Payload):
    """Answered by artifacts `audio`, pieces of one file of the type `format`, in order. `speed` 1 is normal."""

    input: str
    voice: str | None = None
    style: str = "neutral"
    language: str | None = None
    speed: float = 1.0
    format: str = "wav"

    @property
    def text(self) -> str:
        return self.input


@dataclass(frozen=True, slots=True)
class Pose(Payload):
    """Answered by an artifact `landmarks`, which `Landmarks` holds, with progress before it."""

    media: Media
    max_fps: float | None = None


@dataclass(frozen=True, slots=True)
class Dance(Payload):
    """Answered by artifacts `analysis` (JSON), `heatmap` (PNG) and, if they are asked for, `landmarks`.

    `mirror` is `auto`, `yes` or `no`; `language` that of the feedback.
    """

    video: Media | Landmarks
    reference: Media | Landmarks
    mirror: str = "auto"
    keypoints: bool = False
    language: str = "ko"


@dataclass(frozen=True, slots=True)
class Documents(Payload):
    """Something done to a collection of documents: `add`, `list` or `delete`. Answered by an artifact (JSON)."""

    collection: str
    action: str
    document_id: str | None = None
    name: str = ""
    content: str = ""
    file: Media | None = None

    @property
    def repeatable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Retrieval(Payload):
    """A question to a collection. Answered by deltas (the answer, unless only passages are asked for) and an artifact
    `citations` (JSON)."""

    collection: str
    query: str
    top_k: int = 5
    answer: bool = True

    @property
    def text(self) -> str:
        return self.query

    @property
    def repeatable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Coaching(Payload):
    """A question about a picture or a movement. Answered by deltas and artifacts with what was measured."""

    question: str
    image: Media | None = None
    video: Media | None = None
    reference: Media | Landmarks | None = None

    @property
    def text(self) -> str:
        return self.question

    @property
    def repeatable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. `zones` and `pools` empty mean every one of them; a limit that is `None` is not kept.

    The defaults are those of code inside the cluster, which is trusted. `key` is the id of a key, never its secret.
    """

    tenant: str = "local"
    tier: Priority = Priority.STANDARD
    zones: tuple[str, ...] = ()
    user: str | None = None
    key: str | None = None
    scopes: frozenset[str] = frozenset({"admin"})
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_nano_usd: int | None = None
    pools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asks of the router; everything may be left to it."""

    model: str = "auto"
    zone: str | None = None
    task: str | None = None
    locale: str | None = None
    template: str | None = None
    host: str | None = None
    needs: frozenset[str] = frozenset()
    no_store: bool = False
    """Neither take the answer from the cache nor keep it there."""
    whole: bool = False
    """The caller sees nothing before the end, so a run may start anew at any time: with another `Routed`."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """`deadline` is in seconds since the epoch, so that it means the same in every process."""

    priority: Priority = Priority.STANDARD
    deadline: float | None = None
    pools: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a job goes and why. `reasons` are short sentences without any text of the prompt."""

    engine: str
    model: str
    version: str
    node_class: str
    template: str | None = None
    priority: Priority = Priority.STANDARD
    reasons: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to answer a job. `instructions` is the text of the decision's template, if it has one.

    `wakes` is the engine that sleeps while this candidate stands in for its model.
    """

    decision: Decision
    instructions: str | None = None
    wakes: str | None = None

    def apply(self, job: "Job") -> "Job":
        """The job as this candidate's engine is to see it: the instructions come before the caller's own messages."""
        payload = job.payload
        if self.instructions and isinstance(payload, Chat):
            payload = replace(payload, messages=(Message("system", self.instructions), *payload.messages))
        return replace(job, model=self.decision.model, payload=payload)


@dataclass(frozen=True, slots=True)
class Job:
    """One request on its way to an engine."""

    id: str
    kind: Kind
    payload: Payload
    caller: Caller = Caller()
    wish: Wish = Wish()
    constraints: Constraints = Constraints()
    plan: tuple[Candidate, ...] = ()  # set by the plan stage: who may answer, best first
    model: str | None = None  # set by the dispatch: the model that the engine is to use
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run consumed: tokens, seconds of sound, frames of video, characters spoken.

    `engine_s` is the time during which it held a slot, in seconds. `parts` is what the engines that it called consumed;
    the sums include it. The cost is set by the meter, in billionths of a US dollar.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_s: float = 0.0
    cost_nano_usd: int = 0
    audio_s: float = 0.0
    frames: int = 0
    characters: int = 0
    parts: tuple["Part", ...] = ()

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def with_parts(self, parts: Sequence["Part"]) -> "Usage":
        """This usage and that of other engines, which are named."""
        return replace(sum((part.usage for part in parts), self), parts=self.parts + tuple(parts))

    def per_engine(self, engine: str) -> dict[str, "Usage"]:
        """Each engine's own share of the sums; `engine` is the one that was asked."""
        shares = {engine: replace(self, parts=())}
        for part in self.parts:
            for name, usage in part.usage.per_engine(part.engine).items():
                shares[name] = shares.get(name, Usage()) + usage
                shares[engine] -= usage
        return shares

    def __sub__(self, other: "Usage") -> "Usage":
        """What is left of the sums; parts have no difference."""
        left = {f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self) if f.name != "parts"}
        return replace(self, **left)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_usd(self) -> float:
        return self.cost_nano_usd / 1e9


@dataclass(frozen=True, slots=True)
class Part:
    """What another engine consumed for a run."""

    engine: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Routed:
    """The first event of every run: who answers, so that a door can say it before the first byte.

    `cache` is `hit`, `miss` or `bypass`; `attempts` is how many engines were tried until this one answered. If it comes
    again, which only a job that wishes for a whole answer may see, what came before it is void.
    """

    decision: Decision
    cache: str = "bypass"
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text for choice `index`, made of `tokens` tokens."""

    text: str
    index: int = 0
    tokens: int = 1

    def __reduce__(self) -> tuple[type["Delta"], tuple[str, int, int]]:
        """The way dataclasses are pickled takes four times as long, and this one crosses processes for every token."""
        return Delta, (self.text, self.index, self.tokens)


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of the arguments of call `number` of choice `index`; the first of a call brings its `id` and `name`."""

    arguments: str = ""
    index: int = 0
    number: int = 0
    id: str = ""
    name: str = ""
    tokens: int = 1

    def __reduce__(self) -> tuple[type["ToolDelta"], tuple[str, int, int, str, str, int]]:
        return ToolDelta, (self.arguments, self.index, self.number, self.id, self.name, self.tokens)


@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` is between 0 and 1."""

    fraction: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that is no text: a picture, a piece of sound, or what was measured, as JSON."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of every run that did not raise. `finish` holds one OpenAI finish reason per choice.

    `estimated` says that nobody has counted the tokens of the usage.
    """

    usage: Usage = field(default_factory=Usage)
    finish: tuple[str, ...] = ("stop",)
    estimated: bool = False


Event = Routed | Delta | ToolDelta | Progress | Artifact | Done
Handler = Callable[[Job], AsyncGenerator[Event]]
Stage = Callable[[Handler], Handler]
