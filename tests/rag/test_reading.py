"""What callers send instead of documents."""

import io
import zlib
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject, StreamObject

from serve_app.errors import BadRequest, MegaCityError, TooLarge, Unprocessable, WrongMedia
from tests.rag.conftest import RULES, Asked, Build, media

LINES = ["The heart has four chambers.", "Gas exchange takes place in the alveoli."]


def pdf(lines: list[str], password: str = "") -> bytes:
    """One page per line."""
    writer = pypdf.PdfWriter()
    for line in lines:
        _page(writer, DecodedStreamObject(), f"BT /F1 12 Tf 50 700 Td ({line}) Tj ET".encode())
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    return _written(writer)


def bomb() -> bytes:
    """A page of 128 MiB of spaces, in 0.1 MiB."""
    writer = pypdf.PdfWriter()
    packer = zlib.compressobj(9)
    block = b" " * 2**20
    packed = b"".join(packer.compress(block) for _ in range(128)) + packer.flush()
    stream = StreamObject()
    stream[NameObject("/Filter")] = NameObject("/FlateDecode")
    _page(writer, stream, packed)
    return _written(writer)


def _page(writer: pypdf.PdfWriter, stream: StreamObject, content: bytes) -> None:
    page = writer.add_blank_page(612, 792)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    named = DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(named)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream._data = content
    stream[NameObject("/Length")] = NumberObject(len(content))
    page[NameObject("/Contents")] = writer._add_object(stream)


def _written(writer: pypdf.PdfWriter) -> bytes:
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
async def test_text_in_the_encodings_that_are_in_use(rag: Asked, tmp_path: Path, encoding: str) -> None:
    document = await rag.add(file=media(tmp_path / "a", RULES.encode(encoding)))
    assert document["characters"] == len(RULES)
    assert "일곱 권" in (await rag.ask("책은 한 번에 몇 권 빌릴 수 있나요?"))["answer"]


async def test_a_pdf_is_read_and_cited_by_page(rag: Asked, tmp_path: Path) -> None:
    document = await rag.add(file=media(tmp_path / "a.pdf", pdf(LINES)))
    assert document["characters"] >= sum(map(len, LINES))
    answer = await rag.ask("Where does gas exchange take place?")
    assert answer["found"]
    assert "alveoli" in answer["answer"]
    assert {c["page"] for c in answer["citations"]} <= {1, 2}


async def test_files_of_the_same_bytes_are_one_document(rag: Asked, tmp_path: Path) -> None:
    one = await rag.add(file=media(tmp_path / "a", RULES.encode()), name="a")
    two = await rag.add(file=media(tmp_path / "b", RULES.encode()), name="b")
    assert one == two == await rag.add(RULES)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", BadRequest),
        (b" \n\t", BadRequest),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)), WrongMedia),
        (b"PK\x03\x04" + bytes(200), WrongMedia),
        (b"text with a\x00 zero", WrongMedia),
        (bytes(range(128, 256)) * 10, WrongMedia),
        (pdf(LINES, password="secret"), Unprocessable),
        (pdf([]), Unprocessable),
        (pdf(LINES)[:300], Unprocessable),
        (b"%PDF-1.7\n" + b"garbage " * 50, Unprocessable),
        (pdf([""]), Unprocessable),
    ],
    ids=["empty", "blank", "jpeg", "zip", "zero", "noise", "locked", "no pages", "cut off", "no pdf", "pictures"],
)
async def test_what_is_no_text_is_refused(
    rag: Asked, tmp_path: Path, content: bytes, error: type[MegaCityError]
) -> None:
    with pytest.raises(error) as refused:
        await rag.add(file=media(tmp_path / "secret-name.txt", content))
    assert "secret-name" not in refused.value.message
    assert (await rag.documents())["documents"] == []


async def test_a_pdf_that_unpacks_for_ever_is_stopped(build: Build, tmp_path: Path) -> None:
    rag = await build(pdf_seconds=5, pdf_memory_mb=256)
    with pytest.raises((TooLarge, Unprocessable)):
        await rag.add(file=media(tmp_path / "bomb.pdf", bomb()))
    await rag.add(RULES)


async def test_what_is_too_long_is_refused_before_it_is_read(build: Build, tmp_path: Path) -> None:
    rag = await build(max_characters=1000, max_file_bytes=10_000_000, max_pages=1)
    huge = tmp_path / "huge.txt"
    with huge.open("wb") as file:
        file.truncate(50_000_000)
    from serve_app.types import Media

    for file in (
        Media(str(huge), "0" * 64, 50_000_000),
        media(tmp_path / "long.txt", b"words " * 700),
        media(tmp_path / "a.txt", b"words " * 200),
        media(tmp_path / "two.pdf", pdf(LINES)),
    ):
        with pytest.raises(TooLarge):
            await rag.add(file=file)
    with pytest.raises(TooLarge):
        await rag.add("words " * 200)


@pytest.mark.parametrize("text", ["🙂", "# ", "\ud800 lonely", "|\n|-|\n", "```\n", "한", "a" * 5000, "#" * 100])
async def test_odd_texts_are_kept_whole(rag: Asked, text: str) -> None:
    document = await rag.add(text)
    assert document["passages"] >= 1
    assert document["characters"] == len(text)
