"""One generation on CTranslate2, as a worker thread runs it from the first token to the last."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Barrier
from typing import TYPE_CHECKING, Any

from deployments.text.feed import Feed
from deployments.text.sampling import Choosing

if TYPE_CHECKING:
    import ctranslate2

    Step = Callable[[ctranslate2.GenerationStepResult], bool]

GREEDY = Choosing()
WARM_UP_S = 60
LOGITS_STEPS = 64
"""CTranslate2 keeps the logits of a whole generation in memory; this many steps of a large vocabulary are bearable."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the generations of one job have in common: at most `limit` tokens after `prompt`."""

    prompt: list[int]
    limit: int
    choosing: Choosing = GREEDY
    stop: tuple[str, ...] = ()
    n: int = 1
    said: tuple[int, ...] = ()
    """The end of a text that the answer continues: some tokenizers leave out the space before a first word."""


@dataclass(frozen=True, slots=True)
class Outcome:
    finish: str
    seconds: float


class Generation:
    """Runs plans; knows no event loop and no text.

    A callback must not refer to `self`: CTranslate2 lets go of it on its own thread, and a generator that is freed
    there with it would wait for itself.
    """

    def __init__(self, generator: "ctranslate2.Generator", vocabulary: list[str], ends: Sequence[int]) -> None:
        from deployments.text.seeded import SeededSampler  # brings numpy, which no request should wait for

        self._sampler = SeededSampler
        self._generator = generator
        self._vocabulary = vocabulary
        self._ends = frozenset(ends)

    def warm_up(self, slots: int) -> None:
        """One token on every worker: a worker's first run is several times slower than the others."""
        together = Barrier(slots)  # no worker can take a second run before all have taken one

        def meet(_: "ctranslate2.GenerationStepResult") -> bool:
            together.wait(WARM_UP_S)
            return True

        runs = [
            self._generator.generate_batch([self._vocabulary[:1]], max_length=1, callback=meet, asynchronous=True)
            for _ in range(slots)
        ]
        for run in runs:
            run[0].result()

    def run(self, plan: Plan, choice: int, feed: Feed) -> Outcome:
        """Put tokens into the feed until the answer ends or nobody wants more of it."""
        started = time.perf_counter()
        ended = (self._seeded if plan.choosing.seeded else self._native)(plan, choice, feed)
        return Outcome("stop" if ended else "length", time.perf_counter() - started)

    def _native(self, plan: Plan, choice: int, feed: Feed) -> bool:
        """CTranslate2 chooses the tokens. True if the model ended its answer."""
        ends, ended = self._ends, False

        def step(result: "ctranslate2.GenerationStepResult") -> bool:
            nonlocal ended
            token = result.token_id
            if token in ends:
                ended = True
            else:
                feed.put(choice, token)
            return ended or not feed.wanted(choice)

        how = plan.choosing
        sampled = {"sampling_topk": how.top_k, "sampling_topp": how.top_p, "sampling_temperature": how.temperature}
        self._generate(plan.prompt, plan.limit, step, **(sampled if how.temperature > 0 else {}))
        return ended

    def _seeded(self, plan: Plan, choice: int, feed: Feed) -> bool:
        """We choose the tokens, and start again after each one that is not CTranslate2's own greedy choice."""
        from ctranslate2 import DataType, Device

        sampler = self._sampler(plan.choosing, choice, len(self._vocabulary))
        tokens, end = list(plan.prompt), len(plan.prompt) + plan.limit
        ends, ended = self._ends, False

        def step(result: "ctranslate2.GenerationStepResult") -> bool:
            nonlocal ended
            token = sampler.pick(result.logits.to_device(Device.cpu).to(DataType.float32))
            if token in ends:
                ended = True
            else:
                tokens.append(token)
                feed.put(choice, token)
            return ended or token != result.token_id or not feed.wanted(choice)

        while not ended and len(tokens) < end and feed.wanted(choice):
            self._generate(tokens, min(end - len(tokens), LOGITS_STEPS), step, return_logits_vocab=True)
        return ended

    def _generate(self, tokens: list[int], limit: int, step: "Step", **options: Any) -> None:
        self._generator.generate_batch(
            [[self._vocabulary[token] for token in tokens]],
            max_length=limit,
            end_token=sorted(self._ends),
            include_prompt_in_result=False,
            callback=step,
            **options,
        )
