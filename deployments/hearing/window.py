"""faster-whisper with a window that ends soon after the speech."""

from typing import Any

FRAMES_PER_SECOND = 100


def model_class(tail_s: float | None) -> Any:
    """`faster_whisper.WhisperModel`, or one whose encoder sees no more than `tail_s` seconds of nothing at the end.

    faster-whisper fills every window with zeros up to 30 s, and CTranslate2 takes shorter ones. All that reaches the
    encoder goes through `encode`, so that is where the zeros are cut off again.
    """
    from faster_whisper import WhisperModel  # type: ignore[import-untyped]

    if tail_s is None:
        return WhisperModel
    tail = int(tail_s * FRAMES_PER_SECOND)

    class Shorter(WhisperModel):  # type: ignore[misc]
        def encode(self, features: Any) -> Any:
            frames = features.any(axis=tuple(range(features.ndim - 1))).nonzero()[0]
            end = (int(frames[-1]) + 1 if len(frames) else 0) + tail
            return super().encode(features[..., : end + end % 2])

    return Shorter
