"""Text encoders on CTranslate2: embeddings without torch, on a CPU or a GPU."""

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from deployments.retrieval.batches import Batches
from deployments.text.checkpoint import Checkpoint
from serve_app.engine import Engine, EngineOptions
from serve_app.errors import BadRequest, EngineFailed
from serve_app.types import Artifact, Done, Embedding, Event, Job, Kind, Usage

if TYPE_CHECKING:
    import ctranslate2
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

ARTIFACT = "embeddings"
LONGEST_TOKEN = 64
"""Characters of text per token that are looked at, at most: what is cut off anyway need not be tokenised first."""
AT_ONCE = 2_000  # characters that are tokenised in the event loop: less than a millisecond
POSITIONS = 512  # of a checkpoint that does not say


class Encoder(Engine):
    """One vector per text, of length 1 unless `normalise` is off.

    What piles up while the encoder is busy is joined into its next batch, whoever sent it. Usage counts the tokens that
    were really read: a text longer than `max_tokens` is cut, as sentence encoders do.

    `dimensions` of a request keeps the first numbers of each vector and makes it of length 1 again. That is what a
    model trained for it (Matryoshka) is meant for; with any other the vectors get worse faster than they get shorter.
    """

    class Options(EngineOptions):
        path: str
        """Folder with a model converted by `tools.convert_encoder`; a relative one counts as for language models."""
        device: Literal["cpu", "cuda", "auto"] = "cpu"
        compute_type: str = "default"
        """As CTranslate2 names them: `int8_float32`, `float16`, …; `default` is the type the model was stored in."""
        threads: int = Field(default=1, ge=0)
        """CPU threads of each batch; 0 lets CTranslate2 choose."""
        workers: int = Field(default=1, ge=1, le=64)
        """Batches at the same time. One is best on a GPU; on a CPU, as many as there are cores for it."""
        pooling: Literal["mean", "cls"] = "mean"
        normalise: bool = True
        max_tokens: int | None = Field(default=None, ge=3)
        """How much of a text is read; left out, as much as the model can."""
        prefix: str = ""
        """Put before every text that does not begin with one of `prefixes`: e5 models want "query: " there."""
        prefixes: tuple[str, ...] = ()
        """What callers may begin a text with to say its role, such as "query: " and "passage: "."""
        batch_tokens: int = Field(default=8192, ge=1)
        """Texts join a batch as long as they have so many tokens together."""

    options: Options
    kinds = frozenset({Kind.EMBEDDING})

    _tokenizer: "Tokenizer"
    _encoder: "ctranslate2.Encoder"
    _batches: "Batches[NDArray[np.float32]]"
    _workers: ThreadPoolExecutor
    _unload: Callable[[], object]
    _max_tokens: int
    _width: int
    _suspect = False

    async def load(self) -> None:
        """Raises ConfigError when the folder holds no usable model."""
        await asyncio.to_thread(self._load)
        loop = asyncio.get_running_loop()

        async def encode(batch: Sequence[list[int]]) -> "Sequence[NDArray[np.float32]]":
            return await loop.run_in_executor(self._workers, self._encode, batch)

        self._batches = Batches(encode, self.options.workers, self.options.batch_tokens)
        self._width = len((await self._batches.run([[0]]))[0])

    async def run(self, job: Job) -> AsyncGenerator[Event]:
        started = time.perf_counter()
        payload = job.payload
        self._refuse_unusable(payload)
        assert isinstance(payload, Embedding)
        tokens = await self._tokens(payload.inputs)
        try:
            vectors = await self._batches.run(tokens)
        except RuntimeError as error:  # CTranslate2's
            self._suspect = True
            raise EngineFailed("The encoder broke in the middle of a run; try again.") from error
        yield Artifact(ARTIFACT, "application/octet-stream", b"".join(self._cut(vectors, payload.dimensions)))
        read = sum(map(len, tokens))
        yield Done(Usage(prompt_tokens=read, engine_s=time.perf_counter() - started))

    async def check(self) -> None:
        """After a run that broke, encode one token: a lost GPU is found out, a single bad run is forgiven."""
        if self._suspect:
            await self._batches.run([[0]])
            self._suspect = False

    async def close(self) -> None:
        if hasattr(self, "_batches"):  # else load() has failed
            await self._batches.close()
            await asyncio.to_thread(self._workers.shutdown)
            await asyncio.to_thread(self._unload)

    def _load(self) -> None:
        import ctranslate2
        from tokenizers import Tokenizer

        model = Checkpoint.open(self.options.path)
        positions = model.context_tokens or POSITIONS
        self._max_tokens = min(self.options.max_tokens or positions, positions)
        self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._max_tokens)
        self._encoder = ctranslate2.Encoder(
            str(model.weights),
            device=self.options.device,
            compute_type=self.options.compute_type,
            inter_threads=self.options.workers,
            intra_threads=self.options.threads,
        )
        self._unload = weakref.finalize(self, self._encoder.unload_model)
        self._workers = ThreadPoolExecutor(self.options.workers, thread_name_prefix="encode")

    def _refuse_unusable(self, payload: object) -> None:
        if not isinstance(payload, Embedding) or not payload.inputs:
            raise BadRequest("There is nothing to embed; send at least one text.", param="input")
        if not all(text.strip() for text in payload.inputs):
            raise BadRequest("A text to embed is empty; leave it out.", param="input")
        if payload.dimensions is not None and not 1 <= payload.dimensions <= self._width:
            raise BadRequest(f"'dimensions' should be from 1 to {self._width} for this model.", param="dimensions")

    async def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Short texts take less time than handing them to a thread."""
        if sum(map(len, texts)) <= AT_ONCE:
            return self._tokenise(texts)
        return await asyncio.to_thread(self._tokenise, texts)

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        room = self._max_tokens * LONGEST_TOKEN
        encodings = self._tokenizer.encode_batch([self._prefixed(text)[:room] for text in texts])
        return [encoding.ids for encoding in encodings]

    def _prefixed(self, text: str) -> str:
        text = text.lstrip()
        return text if text.startswith(self.options.prefixes) else self.options.prefix + text

    def _encode(self, batch: Sequence[list[int]]) -> "list[NDArray[np.float32]]":
        """Runs in a thread of its own. The hidden states are (texts, longest, width), padded behind each text."""
        import ctranslate2
        import numpy as np

        hidden = self._encoder.forward_batch(list(batch)).last_hidden_state
        if hidden.device != "cpu":
            hidden = hidden.to_device(ctranslate2.Device.cpu)
        states = np.array(hidden, dtype=np.float32)
        return [self._pooled(states[row, : len(tokens)]) for row, tokens in enumerate(batch)]

    def _pooled(self, states: "NDArray[np.float32]") -> "NDArray[np.float32]":
        vector: NDArray[np.float32] = states.mean(axis=0) if self.options.pooling == "mean" else states[0]
        return _unit(vector) if self.options.normalise else vector

    def _cut(self, vectors: "Sequence[NDArray[np.float32]]", dimensions: int | None) -> Iterator[bytes]:
        for vector in vectors:
            short = vector if dimensions is None else _unit(vector[:dimensions])
            yield short.astype("<f4").tobytes()


def _unit(vector: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The vector at length 1; one that is all zeros has no direction and stays as it is."""
    import numpy as np

    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector
