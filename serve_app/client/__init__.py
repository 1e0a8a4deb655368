"""The typed Python client: the same methods over HTTP and, inside a Ray cluster, over a deployment handle.

    async with MegaCity("http://127.0.0.1:8000", key) as city:
        answer = await city.chat("347 더하기 85는 얼마예요?", task="math_tutor")

`MegaCity.from_app()` needs no address: any Ray application or driver of the cluster can use it. `SyncMegaCity` has the
same methods for plain scripts. Errors are those of `serve_app.errors`, whichever way they came; nothing is retried.
"""

from serve_app.client.chat import Hints, Messages, Options, Stream
from serve_app.client.city import DEFAULT_URL, MegaCity
from serve_app.client.files import File
from serve_app.client.results import (
    Advice,
    Answer,
    Citation,
    DanceScore,
    Document,
    DocumentAnswer,
    PronunciationScore,
    Sound,
    Source,
    Span,
    Transcript,
    WordScore,
)
from serve_app.client.stream import server_sent
from serve_app.client.sync import SyncMegaCity, SyncStream
from serve_app.client.way import Answerer

__all__ = [
    "DEFAULT_URL",
    "Advice",
    "Answer",
    "Answerer",
    "Citation",
    "DanceScore",
    "Document",
    "DocumentAnswer",
    "File",
    "Hints",
    "MegaCity",
    "Messages",
    "Options",
    "PronunciationScore",
    "Sound",
    "Source",
    "Span",
    "Stream",
    "SyncMegaCity",
    "SyncStream",
    "Transcript",
    "WordScore",
    "server_sent",
]
