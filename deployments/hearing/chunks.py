"""Long recordings as pieces that begin and end in silence, with no more than a minute of sound in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 16_000
PAD_MS = 200
SPLIT_SILENCE_MS = 300
LONGEST_GAP_S = 3.0
"""Words further apart than this are not given to the model together."""
UNSURE_S = 1.0
"""Speech that ends this near to the end of what has come so far may go on."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`start_s` counts from the beginning of the recording."""

    samples: "Samples"
    start_s: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


class Chunker:
    """Takes blocks of sound in order and gives chunks of at most `chunk_s` seconds."""

    def __init__(self, chunk_s: float, vad: bool) -> None:
        import numpy as np

        self._rest: Samples = np.zeros(0, np.float32)
        self._start = 0
        self._most = int(chunk_s * RATE)
        self._vad = vad
        self.samples = 0

    def push(self, block: "Samples") -> list[Chunk]:
        import numpy as np

        self.samples += len(block)
        self._rest = np.concatenate([self._rest, block])
        return self._take(last=False)

    def end(self) -> list[Chunk]:
        return self._take(last=True) if len(self._rest) else []

    def _take(self, last: bool) -> list[Chunk]:
        spans = self._speech() if self._vad else self._pieces(last)
        keep = len(self._rest)
        if not last and spans and (not self._vad or spans[-1][1] > keep - UNSURE_S * RATE):
            keep = spans.pop()[0]
        chunks = [Chunk(self._rest[a:b].copy(), (self._start + a) / RATE) for a, b in self._packed(spans)]
        self._start += keep
        self._rest = self._rest[keep:].copy()
        return chunks

    def _speech(self) -> list[tuple[int, int]]:
        from faster_whisper.vad import VadOptions, get_speech_timestamps  # type: ignore[import-untyped]

        options = VadOptions(
            max_speech_duration_s=self._most / RATE - 2 * PAD_MS / 1000,
            min_silence_duration_ms=SPLIT_SILENCE_MS,
            speech_pad_ms=PAD_MS,
        )
        return [(span["start"], span["end"]) for span in get_speech_timestamps(self._rest, options)]

    def _pieces(self, last: bool) -> list[tuple[int, int]]:
        """Without looking for speech: as long as they may be, cut where it is quietest near their ends."""
        cuts = [0]
        while len(self._rest) - cuts[-1] > self._most:
            cuts.append(cuts[-1] + self._quietest(self._rest[cuts[-1] : cuts[-1] + self._most]))
        spans = list(zip(cuts, [*cuts[1:], len(self._rest)], strict=True))
        return spans if last or len(spans) > 1 else [(0, len(self._rest))]

    def _quietest(self, piece: "Samples") -> int:
        import numpy as np

        frame, first = RATE // 50, len(piece) * 4 // 5
        tail = piece[first : first + (len(piece) - first) // frame * frame].reshape(-1, frame)
        return first + int(np.square(tail).mean(axis=1).argmin()) * frame

    def _packed(self, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Neighbours together, as long as they fit."""
        current: tuple[int, int] | None = None
        for start, end in spans:
            if current and end - current[0] <= self._most and start - current[1] <= LONGEST_GAP_S * RATE and self._vad:
                current = (current[0], end)
                continue
            if current:
                yield current
            current = (start, end)
        if current:
            yield current
