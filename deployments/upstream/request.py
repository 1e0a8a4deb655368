"""From a payload to the body of a request in OpenAI's form."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serve_app.errors import BadRequest, Unavailable
from serve_app.types import Chat, Completion, Embedding, Media, Message, Payload, ResponseFormat, Tool, ToolCall

ROLES = {"developer": "system"}  # which every upstream knows
PARTS = {"image": "image_url", "video": "video_url"}
SOUND_FORMATS = {"mpeg": "mp3", "mp4": "m4a", "x-wav": "wav", "wave": "wav"}


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between upstreams: the model's name there, and what they call the bound of an answer."""

    model: str
    max_tokens: int
    length_field: str = "max_tokens"

    def limit(self, payload: Payload) -> int:
        """The most tokens that one choice may have."""
        return payload.sampling.max_tokens or self.max_tokens

    def path(self, payload: Payload) -> str:
        return "/chat/completions" if isinstance(payload, Chat) else "/completions"

    def body(self, payload: Payload) -> bytes:
        """Reads the payload's files, so call it in a thread if there are any. Raises `BadRequest` and `Unavailable`."""
        wish = payload.sampling
        fields = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            self.length_field: self.limit(payload),
            "temperature": wish.temperature,
            "top_p": wish.top_p,
            "seed": wish.seed,
            "stop": wish.stop or None,
            "n": wish.n if wish.n > 1 else None,
            "frequency_penalty": wish.frequency_penalty or None,
            "presence_penalty": wish.presence_penalty or None,
            "logit_bias": {str(token): bias for token, bias in wish.logit_bias} or None,
            **(_chat(payload) if isinstance(payload, Chat) else _completion(payload)),
        }
        return _written(fields)

    def embedding_body(self, payload: Embedding) -> bytes:
        """Raises `BadRequest`."""
        fields = {"model": self.model, "input": payload.inputs, "dimensions": payload.dimensions}
        return _written({**fields, "encoding_format": "float"})


def _written(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})
    except TypeError:
        raise BadRequest("The text is not valid Unicode (unpaired surrogate).") from None


def _completion(payload: Payload) -> dict[str, Any]:
    assert isinstance(payload, Completion)
    return {"prompt": payload.prompt}


def _chat(chat: Chat) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": [_message(message) for message in chat.messages]}
    if chat.tools:
        fields["tools"] = [_tool(tool) for tool in chat.tools]
        if chat.tool_choice != "auto":
            fields["tool_choice"] = chat.tool_choice
        if not chat.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
    if chat.response_format.type != "text":
        fields["response_format"] = _response_format(chat.response_format)
    return fields


def _message(message: Message) -> dict[str, Any]:
    fields = {
        "role": ROLES.get(message.role, message.role),
        "content": _content(message),
        "name": message.name,
        "tool_call_id": message.tool_call_id,
        "tool_calls": [_call(call) for call in message.tool_calls] or None,
    }
    return {name: value for name, value in fields.items() if value is not None or name == "content"}


def _content(message: Message) -> str | list[dict[str, Any]] | None:
    if message.media:
        text = [{"type": "text", "text": message.content}] if message.content else []
        return [*_parts(message.media), *text]
    return None if message.tool_calls and not message.content else message.content


def _parts(media: Iterable[Media]) -> list[dict[str, Any]]:
    return [_part(file) for file in media]


def _part(file: Media) -> dict[str, Any]:
    family, _, subtype = file.media_type.partition("/")
    data = base64.b64encode(_bytes(file)).decode()
    if family == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": SOUND_FORMATS.get(subtype, subtype)}}
    if family not in PARTS:
        raise BadRequest("A remote model takes pictures, films and sound; say which by the file's media type.")
    return {"type": PARTS[family], PARTS[family]: {"url": f"data:{file.media_type};base64,{data}"}}


def _bytes(file: Media) -> bytes:
    try:
        return Path(file.path).read_bytes()
    except OSError as error:
        raise Unavailable("A file of the request is gone. Please send it again.") from error


def _tool(tool: Tool) -> dict[str, Any]:
    strict = {"strict": True} if tool.strict else {}
    parameters = orjson.Fragment(tool.parameters)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters, **strict}
    return {"type": "function", "function": function}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _response_format(form: ResponseFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    strict = {"strict": True} if form.strict else {}
    schema = {"name": form.name or "answer", "schema": orjson.Fragment(form.schema), **strict}
    return {"type": form.type, "json_schema": schema}
