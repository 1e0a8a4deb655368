"""What a door needs of the house: somewhere to send a job, someone to ask about routes, and how the engines are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from serve_app.policies.routing import Health, Router
from serve_app.types import Handler


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that every door keeps, whatever engine answers."""

    max_body_bytes: int = 4 * 1024 * 1024
    max_messages: int = 2_000
    max_choices: int = 8
    max_prompts: int = 16
    max_output_tokens: int = 32_768
    max_stop_strings: int = 4
    heartbeat_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Service:
    """`run` is the whole pipeline; `health` maps each engine's name to its state at this moment."""

    run: Handler
    router: Router
    health: Callable[[], Mapping[str, Health]]
    limits: Limits = field(default_factory=Limits)
