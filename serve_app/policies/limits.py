"""Every bound that the doors keep, whatever engine answers, in one table. `docs/limits.md` is made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Limits:
    """Those that a profile may change, under `limits`."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by the profile loader, never changed

    max_body_bytes: int = field(
        default=4 * 1024 * 1024, metadata={"about": "bytes of a request's body, and of a gRPC prompt"}
    )
    max_upload_bytes: int = field(
        default=256 * 1024 * 1024,
        metadata={"about": "bytes of a form with files; its other fields keep the bound above"},
    )
    max_messages: int = field(default=2_000, metadata={"about": "`messages` of a conversation"})
    max_media_parts: int = field(
        default=16, metadata={"about": "pictures, films and sounds in one chat request, as data URLs within its body"}
    )
    max_choices: int = field(default=8, metadata={"about": "`n`, the choices of an answer"})
    max_prompts: int = field(default=16, metadata={"about": "`prompt`, the prompts of one text completion"})
    max_embedding_inputs: int = field(default=2_048, metadata={"about": "`input`, the texts of one embedding request"})
    max_speech_characters: int = field(default=4_096, metadata={"about": "characters of a text that is to be spoken"})
    max_output_tokens: int = field(
        default=32_768, metadata={"about": "`max_tokens` and `max_completion_tokens`; a model may end earlier"}
    )
    max_stop_strings: int = field(default=4, metadata={"about": "`stop`, its strings"})
    heartbeat_s: float = field(
        default=15.0, metadata={"about": "seconds of silence in a stream before a comment is sent, to keep it open"}
    )


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most that a parameter may be, both included. `unit` says what is counted if not the value."""

    least: float
    most: float
    unit: str = ""


RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "temperature": Range(0, 2),
        "top_p": Range(0, 1),
        "frequency_penalty": Range(-2, 2),
        "presence_penalty": Range(-2, 2),
        "logit_bias": Range(-100, 100, "each value"),
        "seed": Range(-(2**63), 2**63 - 1),
        "top_logprobs": Range(0, 20),
        "logprobs": Range(0, 5, "of text completions"),
        "stop": Range(1, 256, "characters of each string"),
        "model": Range(1, 256, "characters"),
        "user": Range(1, 256, "characters"),
        "safety_identifier": Range(1, 256, "characters"),
        "metadata": Range(1, 256, "characters of `zone`, `task`, `locale` and `template`"),
        "tools": Range(0, 128, "tools"),
        "query": Range(1, 4_000, "characters of a question to documents"),
        "top_k": Range(1, 50, "passages"),
        "name": Range(1, 256, "characters of a document's name"),
        "user_id": Range(0, 512, "characters, gRPC"),
        "X-Request-Id": Range(1, 128, "letters, digits and `._:-`; anything else is replaced"),
        "Authorization": Range(49, 49, "characters of a key"),
        "request_head": Range(0, 65_536, "bytes of request line and headers; cut off when more have come"),
        "form": Range(1, 64, "fields, files among them"),
        "form field": Range(1, 128, "characters of its name"),
        "json_depth": Range(0, 1_024, "levels of nesting"),
        "streams": Range(0, 256, "gRPC calls at a time on one connection"),
        "requests_per_minute": Range(1, 2**31 - 1, "of a key"),
        "tokens_per_minute": Range(1, 2**31 - 1, "of a key"),
        "overlap_s": Range(0, 30 * 24 * 3600, "seconds, when a key is rotated"),
    }
)
