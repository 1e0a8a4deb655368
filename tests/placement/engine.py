"""An engine with the options of a vLLM entry. It is only ever planned, never loaded."""

from collections.abc import AsyncGenerator

from serve_app.engine import Engine, EngineOptions
from serve_app.types import Event, Job, Kind


class Vllm(Engine):
    class Options(EngineOptions):
        model: str
        revision: str | None = None
        dtype: str = "auto"
        quantization: str | None = None
        kv_cache_dtype: str = "auto"
        max_model_len: int | None = None
        max_num_seqs: int | None = None
        tensor_parallel: int | None = None

    kinds = frozenset({Kind.CHAT})

    def run(self, job: Job) -> AsyncGenerator[Event]:
        raise NotImplementedError


class Speech(Engine):
    class Options(EngineOptions):
        model: str = "large-v3"
        compute_type: str = "float16"

    kinds = frozenset({Kind.CHAT})

    def run(self, job: Job) -> AsyncGenerator[Event]:
        raise NotImplementedError
