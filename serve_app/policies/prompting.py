"""Prompt strategy: named instructions per task and language, short enough to pay for and shared so that caches hit."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from serve_app.errors import BadRequest
from serve_app.types import Payload

TOKENS_PER_LETTER = 0.25
TOKENS_PER_WIDE_CHAR = 2.0
SAMPLE_CHARS = 20_000
NO_TEMPLATE = "none"

_PIECE = re.compile(r"[A-Za-z]+|\s+|[^A-Za-z\s]")


@dataclass(frozen=True, slots=True)
class Instruction:
    """A template in one language; `name` is what a decision says, such as `math_tutor.ko`."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Templates:
    """Instructions by task and language: the preamble first, in the same words every time, then the task's part.

    Raises `ValueError` for a template that is over the budget or has no text in the fallback language.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    budget_tokens: int = 200
    fallback: str = "en"
    preamble: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, parts in self.tasks.items():
            if self.fallback not in parts:
                raise ValueError(f"templates.tasks.{name}: no text in the fallback language '{self.fallback}'; add one")
            for language in parts:
                self._check(name, language)

    def names(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    def find(self, wish: str) -> tuple[str, str | None]:
        """The template's name, and its language if the wish names one (`math_tutor.ko`), in any case of letters."""
        name, _, language = wish.casefold().partition(".")
        known = {task.casefold(): task for task in self.tasks}
        if name not in known or (language and language not in self.tasks[known[name]]):
            listed = ", ".join(f"{task}.{code}" for task, parts in self.tasks.items() for code in parts)
            raise BadRequest(
                f"Unknown template. Valid ones: {listed or '(none configured)'};"
                f" '{NO_TEMPLATE}' sends your messages as they are.",
                param="metadata.template",
            )
        return known[name], language or None

    def instruction(self, name: str, language: str | None) -> Instruction:
        """The text of a known template in `language`, or in the fallback language if it has none in that one."""
        code = language if language and language in self.tasks[name] else self.fallback
        parts = (self.preamble.get(code, ""), self.tasks[name][code])
        return Instruction(f"{name}.{code}", "\n".join(part.strip() for part in parts if part.strip()))

    def _check(self, name: str, language: str) -> None:
        tokens = estimate_tokens(self.instruction(name, language).text)
        if tokens >= self.budget_tokens:
            raise ValueError(
                f"templates.tasks.{name}.{language}: about {tokens} tokens with its preamble, "
                f"and the budget is under {self.budget_tokens}; shorten it"
            )


def estimate_prompt(payload: Payload) -> int:
    """How many tokens the caller's own prompt takes at most, without what a chat template adds; an estimate."""
    return sum(map(estimate_tokens, payload.texts))


def estimate_tokens(text: str) -> int:
    """How many tokens `text` takes at most, for the vocabularies of the models in our profiles; an estimate.

    - a word of ASCII letters: a token per four letters, rounded up for every word (OpenAI's rule of thumb is four
      characters a token over whole English text, so this errs on the high side);
    - a digit, a sign, a run of white space that is not a single space: one;
    - any other character, among them Hangul, Han and kana: two. Byte-level vocabularies cost Korean 2.4 times the
      tokens of the same text in English with cl100k (Petrov et al. 2023, "Language Model Tokenizers Introduce
      Unfairness Between Languages"), which is about 1.2 a syllable, and newer ones less; two leaves room for the
      32,000-token vocabularies that fall back to bytes.

    A very long text is judged by its first `SAMPLE_CHARS` characters.
    """
    sample = text[:SAMPLE_CHARS]
    tokens = sum(map(_piece_tokens, _PIECE.findall(sample)))
    return math.ceil(tokens * len(text) / len(sample)) if sample else 0


def _piece_tokens(piece: str) -> float:
    if not piece.isascii():
        return TOKENS_PER_WIDE_CHAR
    if piece.isalpha():
        return math.ceil(len(piece) * TOKENS_PER_LETTER)
    return 0 if piece == " " else 1
