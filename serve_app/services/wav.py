"""WAV files that were made as streams."""

import struct

RIFF_UNKNOWN = b"\xff\xff\xff\xff"


def with_length(audio: bytes) -> bytes:
    """Such a file, now with its length in its header; any other file as it is."""
    if audio[:8] != b"RIFF" + RIFF_UNKNOWN:
        return audio
    size = struct.pack("<I", len(audio) - 44)
    return audio[:4] + struct.pack("<I", len(audio) - 8) + audio[8:40] + size + audio[44:]
