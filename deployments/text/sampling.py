"""How the next token is chosen: a request's wishes on top of the model's own defaults."""

import math
from dataclasses import dataclass
from typing import Any, Self

from serve_app.errors import BadRequest
from serve_app.types import Sampling


@dataclass(frozen=True, slots=True)
class Choosing:
    """`temperature` 0 takes the most probable token; `top_k` 0 means every token."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    @classmethod
    def of(cls, wish: Sampling, defaults: dict[str, Any]) -> Self:
        """`defaults` is the content of generation_config.json. Raises BadRequest."""
        own = defaults.get("temperature", 1.0) if defaults.get("do_sample") else 0.0
        temperature = own if wish.temperature is None else wish.temperature
        top_p = defaults.get("top_p", 1.0) if wish.top_p is None else wish.top_p
        if not (math.isfinite(temperature) and temperature >= 0):
            raise BadRequest("temperature must be a number from 0 up.", param="temperature")
        if not 0 < top_p <= 1:
            raise BadRequest("top_p must be above 0 and at most 1.", param="top_p")
        return cls(temperature, top_p, defaults.get("top_k", 0), wish.seed)

    @property
    def seeded(self) -> bool:
        return self.seed is not None and self.temperature > 0
