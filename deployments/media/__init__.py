"""Files of sound and pictures, decoded and encoded in processes of their own that are gone afterwards.

Nothing else of ours gives a caller's bytes to a decoder. What a worker may open, hold and spend is in `worker.py`.
"""

from deployments.media.decoding import Frame, Limits, frames, image, pcm, pcm_blocks
from deployments.media.encoding import MEDIA_TYPES, encode, encoded, sized

__all__ = ["MEDIA_TYPES", "Frame", "Limits", "encode", "encoded", "frames", "image", "pcm", "pcm_blocks", "sized"]
