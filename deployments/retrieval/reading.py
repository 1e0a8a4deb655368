"""From what a caller sent to the text of a document: plain text, Markdown or PDF."""

import asyncio
import codecs
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import BadRequest, EngineFailed, MegaCityError, TooLarge, Unprocessable, WrongMedia
from serve_app.types import Documents, Media

WORKER = Path(__file__).with_name("pdf_worker.py")
MAGIC = b"%PDF-"
BETWEEN_PAGES = "\n\n"
CONTROLS = frozenset(chr(code) for code in range(32)) - set("\t\n\r\f\x0b")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
LEGACY_SHARE = 0.1  # of Hangul, below which bytes that happen to be valid CP949 are not taken for Korean


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a document may cost. `seconds` are of CPU for a PDF, and twice as many may pass on the clock."""

    file_bytes: int
    characters: int
    pages: int
    seconds: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Content:
    """`pages` holds where each page of a PDF begins; it is empty for what has no pages."""

    text: str
    pages: tuple[int, ...] = ()
    is_pdf: bool = False

    def page(self, at: int) -> int | None:
        """The number, from 1, of the page with character `at`."""
        return sum(start <= at for start in self.pages) or None


async def read(payload: Documents, bounds: Bounds) -> Content:
    """Raises BadRequest, WrongMedia, TooLarge or Unprocessable."""
    if payload.file is None:
        content = Content(_checked(payload.content))
    else:
        content = await _file(payload.file, bounds)
    if len(content.text) > bounds.characters:
        raise _too_long(bounds)
    if not content.text.strip():
        if payload.file and content.is_pdf:
            raise Unprocessable(
                "This PDF holds no text; scanned pages are only pictures. Send one with text.", param="file"
            )
        raise BadRequest("The document is empty; send some text.", param="file" if payload.file else "text")
    return content


async def _file(file: Media, bounds: Bounds) -> Content:
    if not file.size:
        raise BadRequest("The file is empty; send one with text.", param="file")
    if file.size > bounds.file_bytes:
        raise TooLarge(
            f"The file is larger than the {bounds.file_bytes} bytes taken here; send it in parts.", param="file"
        )
    start = await asyncio.to_thread(_start, file.path)
    if MAGIC in start:
        return await _pdf(file.path, bounds)
    if file.size > 4 * bounds.characters:  # no encoding takes more for a character
        raise _too_long(bounds)
    return Content(_decoded(await asyncio.to_thread(Path(file.path).read_bytes)))


def _start(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(1024)


def _decoded(raw: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or CP949, in which older Korean files are written."""
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        return _checked(raw.decode(encoding))
    except UnicodeDecodeError:
        return _legacy(raw)


def _legacy(raw: bytes) -> str:
    try:
        text = raw.decode("cp949")
    except UnicodeDecodeError:
        raise _no_text() from None
    if sum("가" <= char <= "힣" for char in text) < LEGACY_SHARE * len(text):
        raise _no_text()
    return _checked(text)


def _checked(text: str) -> str:
    if not CONTROLS.isdisjoint(text):
        raise _no_text()
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no place in a store


async def _pdf(path: str, bounds: Bounds) -> Content:
    request = {"pages": bounds.pages, "cpu_s": bounds.seconds, "memory_bytes": bounds.memory_bytes}
    with await asyncio.to_thread(Path(path).open, "rb") as source:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(WORKER),
            json.dumps(request),
            stdin=source,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env={},
            limit=8 * bounds.characters + 1024,
        )
    try:
        async with asyncio.timeout(2 * bounds.seconds):
            return await _pages(process, bounds)
    except TimeoutError:
        raise _problem("bomb", bounds) from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _pages(process: asyncio.subprocess.Process, bounds: Bounds) -> Content:
    assert process.stdout is not None
    pages: list[str] = []
    starts: list[int] = []
    size = 0
    while line := await process.stdout.readline():
        said = json.loads(line)
        if isinstance(said, dict):
            if "end" in said:
                return Content(BETWEEN_PAGES.join(pages), tuple(starts), is_pdf=True)
            raise _problem(said["problem"], bounds)
        starts.append(size)
        pages.append("".join(char for char in said if char not in CONTROLS))
        size += len(pages[-1]) + len(BETWEEN_PAGES)
        if size > bounds.characters + len(BETWEEN_PAGES):
            raise _too_long(bounds)
    raise _problem("bomb", bounds)  # it was stopped by one of its limits


def _problem(name: str, bounds: Bounds) -> MegaCityError:
    match name:
        case "encrypted":
            return Unprocessable("This PDF is protected by a password; send it without one.", param="file")
        case "pages":
            return TooLarge(f"This PDF has more than {bounds.pages} pages; send it in parts.", param="file")
        case "bomb":
            return TooLarge("This PDF takes more memory or time to read than it may; send it in parts.", param="file")
        case "broken":
            return Unprocessable("This PDF is damaged and cannot be read; save it anew and try again.", param="file")
    return EngineFailed("The PDF could not be read; try again.")


def _too_long(bounds: Bounds) -> TooLarge:
    return TooLarge(f"The document is longer than the {bounds.characters} characters taken here; send it in parts.")


def _no_text() -> WrongMedia:
    return WrongMedia("This is no text that can be read. Send UTF-8 text, Markdown, or a PDF with text.", param="file")
