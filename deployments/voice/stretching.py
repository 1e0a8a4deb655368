"""Slower speech at the same pitch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_S, SEARCH_S = 0.04, 0.01


def stretched(samples: "NDArray[np.float32]", rate: int, factor: float) -> "NDArray[np.float32]":
    """`samples` made `factor` times as long, by waveform similarity overlap-add (Verhelst and Roelands, 1993).

    Windows are laid at half their length; each is taken from where it continues the one before it best, at most
    `SEARCH_S` from where it should come from.
    """
    import numpy as np

    hop, search = int(rate * WINDOW_S / 2), int(rate * SEARCH_S)
    window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)
    source = np.pad(samples, (search, 4 * hop + search))
    steps = int(len(samples) * factor / hop)
    out = np.zeros((steps + 2) * hop, np.float32)
    at = search
    for step in range(steps):
        out[step * hop : (step + 2) * hop] += source[at : at + 2 * hop] * window
        follows = source[at + hop : at + 3 * hop]
        wanted = search + int((step + 1) * hop / factor)
        candidates = source[wanted - search : wanted + search + 2 * hop]
        at = wanted - search + int(np.argmax(np.correlate(candidates, follows, "valid")))
        at = min(at, len(source) - 3 * hop)
    return out[: int(len(samples) * factor)]
