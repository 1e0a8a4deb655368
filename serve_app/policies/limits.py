"""Bounds that every door keeps, whatever engine answers. A profile may change them under `limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by the profile loader, never changed

    max_body_bytes: int = 4 * 1024 * 1024
    max_messages: int = 2_000
    max_choices: int = 8
    max_prompts: int = 16
    max_output_tokens: int = 32_768
    max_stop_strings: int = 4
    heartbeat_s: float = 15.0
