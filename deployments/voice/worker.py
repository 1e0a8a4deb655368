"""Speaks with eSpeak NG, one request after the other, in a process of its own.

eSpeak NG is free software under the GPL 3 or later. It is loaded here and nowhere else: this process is asked over a
socket and answers with samples, so that nothing of the service is linked with it. The library also keeps its state in
globals, and has been overflowed by odd text before: a process that breaks takes nothing else with it.

Run as `python -I worker.py REQUEST`, where REQUEST is JSON with `library` and `data`. Every message on descriptor 0 is
a length, `<I`, and JSON: `text, voice, rate, pitch, range, volume, gap, phonemes`. It is answered on descriptor 1 with
messages of one byte and a length, `<cI`:
- `R`: samples per second, once, when the library is ready
- `A`: samples, 16 bit, mono
- `T`: JSON: `words` as `[first character, characters, ms]`, `phonemes` as `[symbol, ms]`, and `ms`, the whole length
- `E`: JSON with a reason
"""

import ctypes
import json
import os
import resource
import struct
import sys
from typing import Any

HEAD = struct.Struct("<cI")
LENGTH = struct.Struct("<I")
SYNCHRONOUS, PHONEME_EVENTS, DO_NOT_EXIT = 2, 0x0001, 0x8000
UTF8, PHONEMES, END_PAUSE = 1, 0x100, 0x1000
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "gap": 7}
WORD, PHONEME = 1, 7
BUFFER_MS = 200
MEMORY = 512 << 20


class Identifier(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", Identifier),
    )


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Speaker:
    """The library, and what it says about the text that it is speaking."""

    def __init__(self, library: str, data: str | None) -> None:
        self.library = ctypes.CDLL(library)
        self.rate = self.library.espeak_Initialize(
            SYNCHRONOUS, BUFFER_MS, data.encode() if data else None, PHONEME_EVENTS | DO_NOT_EXIT
        )
        self._callback = CALLBACK(self._take)
        self.library.espeak_SetSynthCallback(self._callback)

    def speak(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Send the samples, and return the times, or nothing if there is no such voice."""
        if self.library.espeak_SetVoiceByName(request["voice"].encode()):
            return None
        for name, number in PARAMETERS.items():
            self.library.espeak_SetParameter(number, int(request[name]), 0)
        self.words: list[tuple[int, int, int]] = []
        self.phonemes: list[tuple[str, int]] = []
        self.samples = 0
        text = request["text"].encode() + b"\0"
        flags = UTF8 | END_PAUSE | (PHONEMES if request["phonemes"] else 0)
        self.library.espeak_Synth(text, len(text), 0, 1, 0, flags, None, None)
        return {"words": self.words, "phonemes": self.phonemes, "ms": 1000 * self.samples // self.rate}

    def _take(self, samples: Any, count: int, events: Any) -> int:
        index = 0
        while events[index].type:
            self._note(events[index])
            index += 1
        if samples and count > 0:
            self.samples += count
            send(b"A", ctypes.string_at(samples, 2 * count))
        return 0

    def _note(self, event: Event) -> None:
        if event.type == WORD:
            self.words.append((event.text_position - 1, event.length, event.audio_position))
        elif event.type == PHONEME:
            self.phonemes.append((event.id.string.decode("utf-8", "replace"), event.audio_position))


def confine() -> None:
    """No child processes, nothing written, and memory for one sentence; dictionaries are opened as they are needed."""
    bounds = ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0))
    for what, most in (*bounds, (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_NOFILE, 16)):
        resource.setrlimit(what, (most, most))


def serve(setup: dict[str, Any]) -> None:
    speaker = Speaker(setup["library"], setup["data"])
    confine()
    send(b"R", LENGTH.pack(speaker.rate))
    while head := exactly(LENGTH.size):
        request = json.loads(exactly(LENGTH.unpack(head)[0]))
        times = speaker.speak(request)
        if times is None:
            send(b"E", b'{"reason": "voice"}')
        else:
            send(b"T", json.dumps(times).encode())


def exactly(size: int) -> bytes:
    """The next bytes, or none at the end."""
    content = b""
    while len(content) < size:
        more = os.read(0, size - len(content))
        if not more:
            return b""
        content += more
    return content


def send(kind: bytes, content: bytes) -> None:
    rest = memoryview(HEAD.pack(kind, len(content)) + content)
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
