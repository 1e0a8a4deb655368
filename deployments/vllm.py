# mypy: disable-error-code="import-not-found"
"""Language models on vLLM: continuous batching, prefix caching, adapters, tools, pictures.

The engine's own server is not used. Requests are rendered here and go in as token ids, so that nothing a caller sends
reaches vLLM but numbers, stop strings, schemas and decoded pictures.
"""

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from deployments.text.adapters import adapters, rank
from deployments.text.calls import Schema, answer_schema, grammar, offered
from deployments.text.checkpoint import Published, found
from deployments.text.gauges import Gauges
from deployments.text.guard import guarded
from deployments.text.outputs import Answer
from deployments.text.prompt import Prompter, medium
from deployments.text.sampling import Choosing
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, ConfigError, EngineFailed, Unavailable
from serve_app.types import Chat, Completion, Event, Job, Kind, Media, Sampling

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

CLASS_AHEAD_MS = 30_000
"""By how much a class of priority goes before the next one in vLLM's queue; nobody waits for ever."""
STALLED_S = 120.0
"""Without a single token for so long while requests are open, the engine is taken for dead."""
CLOSE_S = 5.0
HOTTEST = 2.0
"""vLLM takes no higher temperature, so one counts as this."""
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",  # its processes talk without authentication
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a replica has threads, which a fork would break
}


class Speculative(EngineOptions):
    """`tokens` are guessed ahead, by a smaller model, or by `ngram` from what the text has said before."""

    method: Literal["ngram", "draft_model", "eagle", "eagle3"] = "ngram"
    tokens: int = Field(default=4, ge=1, le=16)
    model: str | None = None


class VLLM(Engine):
    """Streams what vLLM's scheduler makes of all requests together.

    The order in its queue is that of the classes: one class goes before the next by 30 s of waiting. To have a queue
    there, `slots` must be larger than `max_num_seqs`; otherwise the host's waiting room does it alone. What several
    requests begin with is computed once, within a tenant: each tenant's blocks have a salt of their own.

    `response_format` and the schemas of tools are kept by grammar, as far as there is one.
    """

    class Options(EngineOptions):
        model: str
        """A folder with config.json, tokenizer.json and safetensors, or a model of a hub, with its `revision`."""
        revision: str | None = None
        dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
        quantization: str | None = None
        """As vLLM names them; left out, the checkpoint says it."""
        kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = "auto"
        kv_cache_gib: float | None = Field(default=None, gt=0)
        """Left out, what is free of `memory_fraction` on a GPU, and a share of the memory on a CPU."""
        max_model_len: int | None = Field(default=None, ge=2)
        """Tokens of prompt and answer together; left out, the model's own."""
        max_num_seqs: int | None = Field(default=None, ge=1)
        """Sequences that are computed together; left out, as many as the engine has slots."""
        max_tokens: int = Field(default=1024, ge=1)
        """Length of an answer when the request does not say."""
        max_choices: int = Field(default=8, ge=1)
        prefix_caching: bool = True
        scheduling: Literal["priority", "fcfs"] = "priority"
        tensor_parallel: int | None = Field(default=None, ge=1)
        """Cards that the model is divided over; left out, all that the replica has."""
        memory_fraction: float | None = Field(default=None, gt=0, le=1)
        """Of each card. Left out, the host computes it from `resources.gpu`."""
        speculative: Speculative | None = None
        loras: Mapping[str, str] = Field(default={})
        """Adapters by the name of the model that they make of this one; folders with safetensors."""
        enforce_eager: bool = False
        attention_backend: str | None = None
        images_per_prompt: int = Field(default=0, ge=0, le=16)
        videos_per_prompt: int = Field(default=0, ge=0, le=4)
        image_px: int = Field(default=1280, ge=64)
        """The longer side of a picture; larger ones are made smaller."""
        video_frames: int = Field(default=16, ge=2, le=256)
        """A video is shown to the model as so many pictures at most, two a second, from its beginning."""

    options: Options
    kinds = frozenset({Kind.CHAT, Kind.COMPLETION})

    _llm: "AsyncLLM"
    _checkpoint: Published
    _prompter: Prompter
    _context: int

    async def load(self) -> None:
        """Raises ConfigError when the checkpoint cannot be served on this machine."""
        self._salt = secrets.token_bytes(32)  # whoever knew it could find out what others have asked
        self._started = self._last_sign = time.monotonic()
        self._open = 0
        self._gauges = Gauges()
        await asyncio.to_thread(self._load)

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        with _as_ours():
            asked = await asyncio.to_thread(self._asked, job)  # a long prompt takes a while to encode
        prompt = await self._prompt(asked, job)
        n = job.payload.sampling.n
        answer, started = Answer(n, asked.may_call, alike=asked.params.n < n), time.monotonic()
        outputs = self._llm.generate(
            prompt,
            asked.params,
            secrets.token_hex(16),  # never the caller's own id, which could be somebody else's
            lora_request=asked.lora,
            priority=self._rank(job),
        )
        with self._in_flight(), _as_ours():
            async with aclosing(outputs):
                async for output in outputs:
                    self._last_sign = time.monotonic()
                    for event in answer.push(output):
                        yield event
                    waited_s = _queued_s(output.metrics)
        yield answer.done(max(1e-6, time.monotonic() - started - waited_s))

    async def check(self) -> None:
        with _as_ours():
            await self._llm.check_health()
        if self._open and time.monotonic() - self._last_sign > STALLED_S:
            raise Unavailable("vLLM has stopped answering.")

    def gauges(self) -> Mapping[str, float]:
        """Requests running and waiting inside vLLM, its KV cache, and in all the tokens that its prefix cache saved."""
        if not self._llm.get_num_unfinished_requests():
            self._gauges.idle()
        return dict(self._gauges.values)

    async def close(self) -> None:
        if hasattr(self, "_llm"):  # else load() has failed
            llm = self._llm
            del self._llm  # when Python ends, it is too late for vLLM to be collected
            await asyncio.to_thread(llm.shutdown, CLOSE_S)
            self._guard.communicate()

    def _load(self) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from tokenizers import Tokenizer
        from vllm.v1.engine.async_llm import AsyncLLM

        self._checkpoint = _opened(self.options)
        self._loras = adapters(self.options.loras)
        arguments = self._arguments()
        tokenizer = Tokenizer.from_file(str(self._checkpoint.tokenizer))
        sees = {"image": self.options.images_per_prompt, "video": self.options.videos_per_prompt}
        self._prompter = Prompter(
            tokenizer,
            self._checkpoint.template,
            self._checkpoint.special_tokens,
            frozenset(kind for kind, most in sees.items() if most),
        )
        try:
            config = arguments.create_engine_config()
        except ValueError as fault:
            raise ConfigError(f"options: vLLM refuses them: {_first_line(fault)}") from fault
        self._context = config.model_config.max_model_len
        self._llm = AsyncLLM.from_vllm_config(
            config,
            stat_loggers=[lambda *_: self._gauges],
            disable_log_stats=True,  # of its own loggers
        )
        manager = self._llm.engine_core.resources.engine_manager
        self._guard = guarded(process.pid for process in manager.processes)
        cache = config.cache_config
        self._gauges.values["kv_cache_tokens"] = float((cache.num_gpu_blocks or 0) * cache.block_size)

    def _arguments(self) -> "AsyncEngineArgs":
        from vllm.engine.arg_utils import AsyncEngineArgs

        options, gib = self.options, self.options.kv_cache_gib
        cards = options.tensor_parallel or _cards()
        _refuse_unfit(self._checkpoint.config, cards)
        speculative = options.speculative
        extra: dict[str, Any] = {}
        if options.memory_fraction is not None:
            extra["gpu_memory_utilization"] = options.memory_fraction
        if options.attention_backend:
            extra["attention_backend"] = options.attention_backend
        if speculative:
            guessed = {"method": speculative.method, "num_speculative_tokens": speculative.tokens}
            extra["speculative_config"] = guessed | ({"model": speculative.model} if speculative.model else {})
        if options.images_per_prompt or options.videos_per_prompt:
            extra["mm_processor_cache_type"] = "lru"  # the other kind unpickles what lies in shared memory
        if self._loras:
            extra |= {"enable_lora": True, "max_loras": len(self._loras), "max_lora_rank": rank(options.loras)}
        return AsyncEngineArgs(
            model=str(self._checkpoint.folder),
            load_format="safetensors",
            trust_remote_code=False,
            dtype=options.dtype,
            quantization=options.quantization,
            kv_cache_dtype=options.kv_cache_dtype,
            kv_cache_memory_bytes=int(gib * 2**30) if gib else None,
            max_model_len=options.max_model_len,
            max_num_seqs=options.max_num_seqs or self.slots,
            enable_prefix_caching=options.prefix_caching,
            scheduling_policy=options.scheduling,
            tensor_parallel_size=cards,
            distributed_executor_backend="mp" if cards > 1 else None,
            enforce_eager=options.enforce_eager,
            limit_mm_per_prompt={"image": options.images_per_prompt, "video": options.videos_per_prompt},
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
            **extra,
        )

    def _asked(self, job: Job) -> "_Asked":
        """Raises BadRequest."""
        payload = job.payload
        tools = offered(payload) if isinstance(payload, Chat) else {}
        self._refuse_unusable(payload.sampling, payload.attachments)
        prompt = self._prompter.encode(payload)
        room = self._context - len(prompt)
        if room < 1:
            raise BadRequest(
                f"This model reads at most {self._context - 1} tokens, and the prompt has {len(prompt)}; shorten it.",
                param="prompt" if isinstance(payload, Completion) else "messages",
                code="context_length_exceeded",
            )
        limit = min(payload.sampling.max_tokens or self.options.max_tokens, room)
        return _Asked(prompt, self._params(job, limit, tools), self._loras.get(job.model or ""), bool(tools))

    def _refuse_unusable(self, wish: Sampling, attached: tuple[Media, ...]) -> None:
        if wish.max_tokens is not None and wish.max_tokens < 1:
            raise BadRequest("max_tokens must be at least 1.", param="max_tokens")
        if not 1 <= wish.n <= self.options.max_choices:
            raise BadRequest(f"n must be from 1 to {self.options.max_choices}.", param="n")
        for kind, most in (("image", self.options.images_per_prompt), ("video", self.options.videos_per_prompt)):
            if sum(medium(media) == kind for media in attached) > most > 0:
                raise BadRequest(f"This model takes at most {most} {kind}(s) at a time.", param="messages")

    def _params(self, job: Job, limit: int, tools: Mapping[str, Schema]) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        payload, defaults = job.payload, self._checkpoint.generation
        wish = payload.sampling
        how = Choosing.of(wish, defaults)
        return SamplingParams(
            n=wish.n if how.temperature else 1,  # all would be the same
            temperature=min(how.temperature, HOTTEST),
            top_p=how.top_p,
            top_k=how.top_k,
            seed=how.seed,
            frequency_penalty=wish.frequency_penalty,
            presence_penalty=wish.presence_penalty,
            logit_bias=dict(wish.logit_bias) or None,
            repetition_penalty=defaults.get("repetition_penalty", 1.0),
            stop=list(wish.stop),
            max_tokens=limit,
            structured_outputs=_structure(payload, tools) if isinstance(payload, Chat) else None,
            skip_special_tokens=not tools,  # some tokenizers count the marks of a call among them
            output_kind=RequestOutputKind.DELTA,
        )

    async def _prompt(self, asked: "_Asked", job: Job) -> dict[str, Any]:
        """The token ids with the tenant's salt, and what the model is to look at, decoded."""
        from vllm.inputs import tokens_input

        salt = self._salted(job, b"")
        if not job.payload.attachments:
            return dict(tokens_input(asked.prompt, cache_salt=salt))
        prompt: dict[str, Any] = {"prompt_token_ids": asked.prompt, "cache_salt": salt}
        shown: dict[str, list[Any]] = {}
        names: dict[str, list[str]] = {}
        for media in job.payload.attachments:
            kind = medium(media)
            shown.setdefault(kind, []).append(await self._decoded(kind, media))
            names.setdefault(kind, []).append(self._salted(job, bytes.fromhex(media.sha256)))
        return prompt | {"multi_modal_data": shown, "multi_modal_uuids": names}

    def _salted(self, job: Job, what: bytes) -> str:
        """A name that only this tenant's requests have, and that nobody outside can make."""
        return hmac.new(self._salt, what + job.caller.tenant.encode(), hashlib.sha256).hexdigest()

    async def _decoded(self, kind: str, media: Media) -> Any:
        from deployments.media import Limits, frames, image

        limits = Limits(side_px=self.options.image_px)
        if kind == "image":
            from PIL import Image

            return Image.fromarray(await image(media, limits))
        import numpy as np

        pictures = []
        async with aclosing(frames(media, limits, max_fps=2.0)) as shown:
            async for frame in shown:
                pictures.append(frame.rgb)
                if len(pictures) == self.options.video_frames:
                    break
        return np.stack(pictures)

    def _rank(self, job: Job) -> int:
        """Smaller goes first: the time of arrival, put back for the lower classes."""
        if self.options.scheduling == "fcfs":
            return 0
        return job.constraints.priority * CLASS_AHEAD_MS + int((time.monotonic() - self._started) * 1000)

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        if not self._open:
            self._last_sign = time.monotonic()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


@dataclass(frozen=True, slots=True)
class _Asked:
    prompt: list[int]
    params: "SamplingParams"
    lora: "LoRARequest | None"
    may_call: bool


def _opened(options: VLLM.Options) -> Published:
    """The checkpoint's folder; a model of a hub is fetched, without what could run. Raises ConfigError."""
    if folder := found(options.model):
        return Published.open(folder)
    if not options.revision:
        raise ConfigError(f"model: there is no folder '{options.model}'; give one, or a hub's model and its revision")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
    return Published.open(Path(snapshot_download(options.model, revision=options.revision, allow_patterns=wanted)))


def _cards() -> int:
    import torch

    return torch.cuda.device_count() or 1


def _refuse_unfit(config: Mapping[str, Any], cards: int) -> None:
    """What vLLM would find out late or say at length. Raises ConfigError; `megacity check` says it earlier."""
    heads = config.get("num_attention_heads")
    if not heads:
        return
    if heads % cards:
        fitting = [n for n in (1, 2, 4, 8) if not heads % n]
        raise ConfigError(
            f"tensor_parallel: {heads} heads do not divide by {cards}; use {' or '.join(map(str, fitting))}"
        )
    from vllm.platforms import current_platform

    size = config.get("head_dim") or config.get("hidden_size", 0) // heads
    if current_platform.is_cpu():
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

        known = CPUAttentionBackend.get_supported_head_sizes()
        if size not in known:
            raise ConfigError(f"model: heads of {size}, and vLLM has {', '.join(map(str, known))} on a CPU")


def _structure(chat: Chat, tools: Mapping[str, Schema]) -> Any:
    """What vLLM holds the answer to."""
    from vllm.sampling_params import StructuredOutputsParams

    if tag := grammar(chat, tools):
        return StructuredOutputsParams(structural_tag=json.dumps(tag))
    schema = answer_schema(chat.response_format)
    return None if schema is None else StructuredOutputsParams(json=schema)


@contextmanager
def _as_ours() -> Iterator[None]:
    """vLLM's errors as those that a caller can understand, without its words, which may repeat the request."""
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except EngineDeadError as fault:
        raise Unavailable("The language engine was lost; try again.") from fault
    except VLLMClientError as fault:
        raise BadRequest(
            "The model cannot take this: simplify the schema, if there is one, or send less text or fewer pictures."
        ) from fault
    except EngineGenerateError as fault:
        raise EngineFailed("The language engine broke in the middle of a run; try again.") from fault


def _queued_s(metrics: Any) -> float:
    """How long a request has waited in vLLM's own queue."""
    if metrics is None or not metrics.scheduled_ts:
        return 0.0
    return max(0.0, float(metrics.scheduled_ts - metrics.queued_ts))


def _first_line(fault: Exception) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("Value error, ")), lines[0] if lines else "")
    return said.removeprefix("Value error, ").split(" [type=")[0]
