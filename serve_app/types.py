"""The vocabulary: what a request is, what an answer is made of, and what was decided about it.

Everything between the doors and the engines speaks these shapes and no others. They are frozen, so a stage that
wants to change a job makes a new one with `dataclasses.replace`.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum


class Kind(StrEnum):
    """What a job asks an engine to do."""

    CHAT = "chat"
    COMPLETION = "completion"


class Priority(IntEnum):
    """Lower goes first."""

    PREMIUM = 0
    STANDARD = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. `None` means the model's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1


@dataclass(frozen=True, slots=True)
class Chat:
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()

    @property
    def text(self) -> str:
        """The last user message: what routing rules look at."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Completion:
    prompt: str
    sampling: Sampling = Sampling()

    @property
    def text(self) -> str:
        return self.prompt


Payload = Chat | Completion


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. `zones` empty means every zone; a limit that is `None` is not kept.

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
    """What a run consumed. `engine_s` is the time during which it held a slot, in seconds.

    The cost is set by the meter, in billionths of a US dollar.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_s: float = 0.0
    cost_nano_usd: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_usd(self) -> float:
        return self.cost_nano_usd / 1e9


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


@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` is between 0 and 1."""

    fraction: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of every run that did not raise. `finish` holds one OpenAI finish reason per choice."""

    usage: Usage = field(default_factory=Usage)
    finish: tuple[str, ...] = ("stop",)


Event = Routed | Delta | Progress | Artifact | Done
Handler = Callable[[Job], AsyncGenerator[Event]]
Stage = Callable[[Handler], Handler]
