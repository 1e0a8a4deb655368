"""Takes the text out of one PDF, in a process of its own that is gone afterwards.

Run as `python -I pdf_worker.py REQUEST`, where REQUEST is JSON with `pages`, `cpu_s` and `memory_bytes`. The file is
descriptor 0. The answer is one JSON value a line: the text of each page, then `{"end": true}`, or `{"problem": NAME}`.
Whatever a hostile file makes of the parser, this process writes nothing but its answer, starts nothing, and ends at its
limits of memory and time.
"""

import io
import json
import logging
import os
import resource
import sys

import pypdf
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

OPEN_FILES = 16  # the parser and Python's codecs load some of their modules when a file first needs them


def main(request: dict[str, int]) -> None:
    file = io.BytesIO(sys.stdin.buffer.read())
    confine(request["cpu_s"], request["memory_bytes"])
    try:
        extract(file, request["pages"])
    except (FileNotDecryptedError, DependencyError):
        say({"problem": "encrypted"})
    except (MemoryError, LimitReachedError, RecursionError):
        say({"problem": "bomb"})
    except Exception:  # noqa: BLE001 - a parser of hostile files may raise anything, and all of it means the same
        say({"problem": "broken"})


def confine(cpu_s: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def extract(file: io.BytesIO, most_pages: int) -> None:
    reader = pypdf.PdfReader(file)
    if reader.is_encrypted and not reader.decrypt(""):
        raise FileNotDecryptedError
    if len(reader.pages) > most_pages:
        say({"problem": "pages"})
        return
    for page in reader.pages:
        say(page.extract_text().encode("utf-8", "replace").decode("utf-8"))
    say({"end": True})


def say(value: object) -> None:
    left = memoryview(json.dumps(value).encode("ascii") + b"\n")
    while left:
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    logging.disable()
    main(json.loads(sys.argv[1]))
