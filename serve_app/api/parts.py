"""Pictures, films and sound within messages: bytes in data URLs, brought to disk for the engine.

Nothing is fetched for a caller: an address could lead into networks that this service can see and its callers cannot.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from serve_app.api import wire
from serve_app.errors import BadRequest
from serve_app.policies.limits import Limits
from serve_app.services.spool import Spool
from serve_app.types import Media

Place = tuple[int, int]
"""Which message, and which of its parts."""

NOTHING: Mapping[Place, Media] = {}
SUBTYPE = re.compile(r"[\w!#$&^.+-]{1,64}", re.ASCII)
FAMILIES = {"image_url": "image", "video_url": "video", "input_audio": "audio"}
SOUND_TYPES = {"mp3": "mpeg", "m4a": "mp4"}


async def spooled(body: wire.ChatRequest, spool: Spool, limits: Limits, files: ExitStack) -> Mapping[Place, Media]:
    """The files of a request on this node's disk, for as long as `files` is open. Raises `BadRequest`."""
    places = list(_places(body.messages))
    if not places:
        return NOTHING
    if len(places) > limits.max_media_parts:
        raise BadRequest(f"'messages' may hold at most {limits.max_media_parts} files.", param="messages")
    found: dict[Place, Media] = {}
    for place, part in places:
        param = f"messages.{place[0]}.content.{place[1]}.{part.type}"
        media_type, data = _read(part, param)
        content = await asyncio.to_thread(_decoded, data, param)
        file = spool.file()
        files.callback(file.remove)
        await file.write(content)
        found[place] = file.media(media_type)
    return found


Placed = wire.ImagePart | wire.VideoPart | wire.AudioPart


def _places(messages: Sequence[wire.ChatMessage]) -> Iterator[tuple[Place, Placed]]:
    for at, message in enumerate(messages):
        for number, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if isinstance(part, Placed):
                yield (at, number), part


def _read(part: Placed, param: str) -> tuple[str, str]:
    """The media type and the data in base64."""
    match part:
        case wire.AudioPart(input_audio=sound):
            subtype = SOUND_TYPES.get(sound.format, sound.format)
            if not SUBTYPE.fullmatch(subtype):
                raise BadRequest(f"'{param}.format' should be the name of a format, such as wav.", param=param)
            return f"audio/{subtype}", sound.data
        case wire.ImagePart(image_url=address) | wire.VideoPart(video_url=address):
            return _data_url(address.url, FAMILIES[part.type], param)


def _data_url(url: str, family: str, param: str) -> tuple[str, str]:
    if url[:5].lower() != "data:":
        raise BadRequest(
            f"'{param}.url' is an address, and this service fetches none. Send the bytes instead, as a data URL:"
            f" 'data:{family}/...;base64,...'.",
            param=f"{param}.url",
        )
    head, _, data = url[5:].partition(",")
    media_type, *settings = head.split(";")
    of, _, subtype = media_type.lower().partition("/")
    if of != family or not SUBTYPE.fullmatch(subtype) or "base64" not in settings:
        raise BadRequest(f"'{param}.url' should begin with 'data:{family}/...;base64,'.", param=f"{param}.url")
    return f"{of}/{subtype}", data


def _decoded(data: str, param: str) -> bytes:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"'{param}' is no valid base64.", param=param) from None
    if not content:
        raise BadRequest(f"'{param}' is an empty file.", param=param, code="empty_file")
    return content
