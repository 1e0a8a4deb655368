"""Language models on CTranslate2: chat and completion without torch, on a CPU or a GPU."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from deployments.text.checkpoint import Checkpoint
from deployments.text.feed import Feed
from deployments.text.generation import Generation, Outcome, Plan
from deployments.text.sampling import Choosing
from deployments.text.stream import Choice
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, EngineFailed
from serve_app.types import Completion, Delta, Done, Event, Job, Kind, Payload, Sampling, Usage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from deployments.text.prompt import Prompter

SAID_TOKENS = 6


class CTranslate2(Engine):
    """Streams token by token, each choice as a generation of its own on one of `slots` worker threads.

    Usage is what really happened: prompt tokens after the chat template, completion tokens without the one that ends
    an answer, and the seconds for which workers were held, summed over the choices.

    A request with a seed and a temperature above 0 is sampled here and not by CTranslate2, whose only seed is one for
    the whole process. The distribution is exact; the price is one more prefill for each token that is not the most
    probable one.
    """

    class Options(EngineOptions):
        path: str
        """Folder with a converted model; a relative one counts from the current directory, then from the project."""
        device: Literal["cpu", "cuda", "auto"] = "cpu"
        compute_type: str = "default"
        """As CTranslate2 names them: `int8`, `float16`, …; `default` is the type in which the model was stored."""
        threads: int = Field(default=1, ge=0)
        """CPU threads of each generation; 0 lets CTranslate2 choose."""
        max_tokens: int = Field(default=512, ge=1)
        """Length of an answer when the request does not say."""
        context_tokens: int | None = Field(default=None, ge=2)
        """Prompt and answer together; left out, the model's config.json says it."""
        max_choices: int = Field(default=8, ge=1)
        """The largest `n` of a request."""

    options: Options
    kinds = frozenset({Kind.CHAT, Kind.COMPLETION})

    _model: Checkpoint
    _context: int
    _tokenizer: "Tokenizer"
    _prompter: "Prompter"
    _generation: Generation
    _workers: ThreadPoolExecutor
    _unload: Callable[[], object]
    _suspect = False

    async def load(self) -> None:
        """Raises ConfigError when the folder holds no usable model."""
        await asyncio.to_thread(self._load)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        plan = await asyncio.to_thread(self._plan, job.payload)  # a long prompt takes a while to encode
        answers = Answers(plan, [self._choice(plan, index) for index in range(plan.n)])
        answers.start(self._workers, self._generation)
        try:
            while answers.running:
                await answers.feed.wait()
                for delta in answers.advance():
                    yield delta
            yield answers.done()
        except EngineFailed:
            self._suspect = True
            raise
        finally:
            answers.stop()

    async def check(self) -> None:
        """After a run that broke, generate one token: a lost GPU is found out, a single bad run is forgiven."""
        if self._suspect:
            await asyncio.get_running_loop().run_in_executor(self._workers, self._generation.warm_up, 1)
            self._suspect = False

    async def close(self) -> None:
        if hasattr(self, "_workers"):  # else load() has failed
            await asyncio.to_thread(self._workers.shutdown)
            await asyncio.to_thread(self._unload)

    def _load(self) -> None:
        import ctranslate2
        from tokenizers import Tokenizer

        from deployments.text.prompt import Prompter

        model = self._model = Checkpoint.open(self.options.path)
        self._context = self._context_tokens(model)
        self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        self._prompter = Prompter(self._tokenizer, model.template, model.special_tokens)
        generator = ctranslate2.Generator(
            str(model.weights),
            device=self.options.device,
            compute_type=self.options.compute_type,
            inter_threads=self.slots,
            intra_threads=self.options.threads,
        )
        # Python must not end while CTranslate2's threads still hold a callback: unloading waits for them.
        self._unload = weakref.finalize(self, generator.unload_model)
        self._generation = Generation(generator, model.vocabulary, model.end_tokens)
        self._workers = ThreadPoolExecutor(self.slots, thread_name_prefix="generate")
        self._generation.warm_up(self.slots)

    def _context_tokens(self, model: Checkpoint) -> int:
        context = self.options.context_tokens or model.context_tokens
        if context is None:
            raise ConfigError("context_tokens: the model's config.json does not say it; set it in the profile")
        return context

    def _plan(self, payload: Payload) -> Plan:
        """Raises BadRequest."""
        wish = payload.sampling
        self._refuse_unusable(wish)
        prompt = self._prompter.encode(payload)
        room = self._context - len(prompt)
        if room < 1:
            raise BadRequest(
                f"This model reads at most {self._context - 1} tokens, and the prompt has {len(prompt)}; shorten it.",
                param="prompt" if isinstance(payload, Completion) else "messages",
                code="context_length_exceeded",
            )
        return Plan(
            prompt=prompt,
            limit=min(wish.max_tokens or self.options.max_tokens, room),
            choosing=Choosing.of(wish, self._model.generation),
            stop=wish.stop,
            n=wish.n,
            said=tuple(prompt[-SAID_TOKENS:]) if isinstance(payload, Completion) else (),
        )

    def _refuse_unusable(self, wish: Sampling) -> None:
        if wish.max_tokens is not None and wish.max_tokens < 1:
            raise BadRequest("max_tokens must be at least 1.", param="max_tokens")
        if not 1 <= wish.n <= self.options.max_choices:
            raise BadRequest(f"n must be from 1 to {self.options.max_choices}.", param="n")

    def _choice(self, plan: Plan, index: int) -> Choice:
        from tokenizers.decoders import DecodeStream

        tokenizer, stream = self._tokenizer, DecodeStream(ids=list(plan.said), skip_special_tokens=True)
        return Choice(index, lambda token: stream.step(tokenizer, token), plan.stop)


class Answers:
    """The choices of one run while workers produce them."""

    def __init__(self, plan: Plan, choices: list[Choice]) -> None:
        self.feed = Feed()
        self.running = list(choices)
        self._plan = plan
        self._choices = choices
        self._work: list[Future[Outcome]] = []

    def start(self, workers: Executor, generation: Generation) -> None:
        for choice in self._choices:
            future = workers.submit(generation.run, self._plan, choice.index, self.feed)
            future.add_done_callback(lambda _: self.feed.wake())
            self._work.append(future)

    def advance(self) -> list[Delta]:
        """The text of everything that has arrived. Raises EngineFailed."""
        ended = [choice for choice in self.running if self._work[choice.index].done()]  # first: they put nothing more
        for index, token in self.feed.take():
            self._choices[index].push(token)
            if self._choices[index].finish:
                self.feed.closed.add(index)
        for choice in ended:
            choice.end(_outcome(self._work[choice.index]).finish)
        deltas = [delta for choice in self.running if (delta := choice.delta(last=choice in ended))]
        self.running = [choice for choice in self.running if choice not in ended]
        return deltas

    def done(self) -> Done:
        usage = Usage(
            prompt_tokens=len(self._plan.prompt),
            completion_tokens=sum(choice.tokens for choice in self._choices),
            engine_s=sum(future.result().seconds for future in self._work),
        )
        return Done(usage, tuple(choice.finish or "stop" for choice in self._choices))

    def stop(self) -> None:
        """Free the workers at their next token; what still waits for one never starts."""
        self.feed.closed.update(range(self._plan.n))
        for future in self._work:
            future.cancel()


def _outcome(future: Future[Outcome]) -> Outcome:
    if future.cancelled():
        raise EngineFailed("The language engine was closed in the middle of a run; try again.")
    if fault := future.exception():
        raise EngineFailed("The language engine broke in the middle of a run; try again.") from fault
    return future.result()
