"""What is taken out of a prompt before it leaves the house: by a function that the profile names."""

import importlib
from collections.abc import Callable
from dataclasses import replace

from serve_app.errors import BadRequest, ConfigError, EngineFailed
from serve_app.types import Chat, Completion, Embedding, Message, Payload

Mask = Callable[[str], str]


def load_mask(name: str) -> Mask:
    """The function that `module:function` names. Raises `ConfigError`."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"mask: there is no '{name}'; name a function as module:function") from error
    if not callable(found):
        raise ConfigError(f"mask: '{name}' is no function; name one that takes a text and returns one")
    mask: Mask = found
    return mask


def masked(payload: Payload, mask: Mask) -> Payload:
    """The payload with every text of its caller masked. What cannot be masked does not leave: raises for it."""
    if payload.attachments:
        raise BadRequest("Files may not leave the house, and only a remote model could take these. Send text only.")
    match payload:
        case Chat():
            tools = tuple(replace(tool, description=_apply(mask, tool.description)) for tool in payload.tools)
            return replace(payload, messages=tuple(_message(m, mask) for m in payload.messages), tools=tools)
        case Completion(prompt):
            return replace(payload, prompt=_apply(mask, prompt))
        case Embedding(inputs):
            return replace(payload, inputs=tuple(_apply(mask, text) for text in inputs))
    raise BadRequest("This kind of request may not leave the house.")


def _message(message: Message, mask: Mask) -> Message:
    calls = tuple(replace(call, arguments=_apply(mask, call.arguments)) for call in message.tool_calls)
    name = _apply(mask, message.name) if message.name else None
    return replace(message, content=_apply(mask, message.content), tool_calls=calls, name=name)


def _apply(mask: Mask, text: str) -> str:
    try:
        safe = mask(text)
    except Exception:  # noqa: BLE001 - whatever the function raises may hold the text, and nothing leaves then
        raise EngineFailed("A prompt could not be made ready to leave the house.") from None
    if not isinstance(safe, str):
        raise EngineFailed("A prompt could not be made ready to leave the house.")
    return safe
