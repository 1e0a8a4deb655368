"""Forms with files: streamed to the spool as they come, and removed when the answer has been sent."""

import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from serve_app.api import validation
from serve_app.api.calls import service_of
from serve_app.errors import BadRequest, TooLarge, WrongMedia
from serve_app.policies.limits import RANGES, Limits
from serve_app.services.spool import Spool, SpoolFile
from serve_app.types import Media

Model = TypeVar("Model", bound=BaseModel)
WRITTEN_AT_ONCE = 1 << 20  # bytes of a file that may wait in memory
MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}", re.ASCII)
LONGEST_FILE_NAME = 255


@dataclass(frozen=True, slots=True)
class Form:
    """A form that was read. `files` lie on this node's disk until the answer has been sent.

    `fields` has the last value of each name, `lists` all of them; a name that ends in `[]` is found without it.
    `names` are the file names as the caller gave them: for showing to the caller, and for nothing else.
    """

    fields: Mapping[str, str]
    files: Mapping[str, Media]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def read(self, model: type[Model]) -> Model:
        """The fields as `model`; numbers and truth values may be written as text. Raises `BadRequest`."""
        given = {name: values if len(values) > 1 else values[0] for name, values in self.lists.items()}
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        try:
            return model.model_validate(data, strict=False)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=True)
            raise validation.bad_request(found, data) from None


def multipart(*required: str, optional: Iterable[str] = ()) -> Callable[[Request], AsyncGenerator[Form]]:
    """A dependency that reads a form with these files, or raises what is to be answered."""
    known = frozenset([*required, *optional])

    async def form(request: Request) -> AsyncGenerator[Form]:
        service = service_of(request)
        reading = _Reading(service.spool, service.limits, known)
        try:
            await _read(request, reading, service.limits.max_upload_bytes)
            for name in required:
                if name not in reading.files:
                    raise BadRequest(f"'{name}' is required, and should be a file.", param=name)
            yield reading.form()
        finally:
            reading.remove()

    return form


def takes_form(model: type[BaseModel], *required: str, optional: Iterable[str] = ()) -> dict[str, Any]:
    """The part of an operation's description that `multipart` cannot give by itself."""
    schema = model.model_json_schema()
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    properties = dict.fromkeys((*required, *optional), file) | schema.get("properties", {})
    body = {**schema, "type": "object", "properties": properties, "required": [*required, *schema.get("required", [])]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": body}}}}


async def _read(request: Request, reading: "_Reading", limit: int) -> None:
    parser = MultipartParser(_boundary(request), reading.callbacks())  # type: ignore[arg-type]  # a plain dict will do
    too_large = TooLarge(f"The body is larger than the {limit} bytes taken here. Send less.", code="upload_too_large")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:18]) > limit:
        raise too_large
    got = 0
    async for chunk in request.stream():
        got += len(chunk)
        if got > limit:
            raise too_large
        try:
            parser.write(chunk)
        except FormParserError:
            raise _broken() from None
        await reading.flush()
    if not reading.complete:
        raise _broken()


def _boundary(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongMedia("Compressed bodies are not taken; send the body as it is.")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise WrongMedia("Send the file in a form: 'Content-Type: multipart/form-data'.")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # RFC 2046
        raise BadRequest("The Content-Type has no good boundary. Let your HTTP client make the form.")
    return boundary


def _broken() -> BadRequest:
    return BadRequest("The form is broken or cut off. Let your HTTP client make it, and send it again.")


@dataclass
class _Part:
    name: str
    file_name: str | None
    media_type: str
    content: bytearray = field(default_factory=bytearray)
    file: SpoolFile | None = None
    ended: bool = False


class _Reading:
    """A form on its way in. The parser calls back within `write`; what it left is brought to disk by `flush`."""

    def __init__(self, spool: Spool, limits: Limits, known: frozenset[str]) -> None:
        self.spool = spool
        self.limits = limits
        self.known = known
        self.files: dict[str, Media] = {}
        self.names: dict[str, str] = {}
        self.lists: defaultdict[str, list[str]] = defaultdict(list)
        self.complete = False
        self._parts: list[_Part] = []  # those that `flush` has not finished
        self._written: list[SpoolFile] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._count = 0
        self._text_bytes = 0

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._named,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def form(self) -> Form:
        lists = {name: tuple(values) for name, values in self.lists.items()}
        return Form({name: values[-1] for name, values in lists.items()}, self.files, lists, self.names)

    def remove(self) -> None:
        for file in self._written:
            file.remove()

    async def flush(self) -> None:
        for part in self._parts:
            if part.file_name is None:
                if part.ended:
                    self._take_text(part)
            elif part.ended or len(part.content) >= WRITTEN_AT_ONCE:
                await self._take_file(part)
        self._parts = [part for part in self._parts if not part.ended]

    def _take_text(self, part: _Part) -> None:
        try:
            self.lists[part.name.removesuffix("[]")].append(part.content.decode())
        except UnicodeDecodeError:
            raise BadRequest(f"'{part.name}' should be text in UTF-8.", param=part.name) from None

    async def _take_file(self, part: _Part) -> None:
        if part.file is None:
            part.file = self.spool.file()
            self._written.append(part.file)
        await part.file.write(part.content)
        part.content = bytearray()
        if part.ended:
            if not part.file.size:
                raise BadRequest(f"'{part.name}' is an empty file.", param=part.name, code="empty_file")
            self.files[part.name] = part.file.media(part.media_type)

    def _begin(self) -> None:
        self._headers = {}
        self._count += 1
        if self._count > RANGES["form"].most:
            raise BadRequest(f"A form may have at most {RANGES['form'].most:.0f} fields.")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _named(self) -> None:
        """All headers of a part are there."""
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        name = _text(options.get(b"name", b""))
        if not 0 < len(name) <= RANGES["form field"].most:
            raise BadRequest(
                f"Every field of a form needs a name of at most {RANGES['form field'].most:.0f} characters."
            )
        file_name = _text(options[b"filename"]) if b"filename" in options else None
        if file_name is not None:
            self._expect(name)
            self.names[name] = file_name[:LONGEST_FILE_NAME]
        said = self._headers.get(b"content-type", b"").decode("latin-1")
        self._parts.append(_Part(name, file_name, said if MEDIA_TYPE.fullmatch(said) else ""))

    def _expect(self, name: str) -> None:
        if name not in self.known:
            raise BadRequest(f"Files are taken as {', '.join(sorted(self.known))}; one of another name was sent.")
        if name in self.names:
            raise BadRequest(f"'{name}' was sent twice. Send one file.", param=name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._parts[-1]
        part.content += memoryview(data)[start:end]
        if part.file_name is None:
            self._text_bytes += end - start
            if self._text_bytes > self.limits.max_body_bytes:
                raise TooLarge(f"The fields of a form may have at most {self.limits.max_body_bytes} bytes together.")

    def _end(self) -> None:
        self._parts[-1].ended = True

    def _finish(self) -> None:
        self.complete = True


def _text(raw: bytes) -> str:
    """A parameter of a header: browsers send UTF-8; what is none is shown as well as it can be."""
    with suppress(UnicodeDecodeError):
        return raw.decode()
    return raw.decode("latin-1")
