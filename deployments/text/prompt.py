"""From messages to token ids, by the checkpoint's own chat template.

Only the template may write control tokens. A message that spells one out, such as `<|end|>`, is read as the plain
characters it is made of, so that nobody can end their turn and speak as the system. Text without such a spelling is
encoded exactly as the model's authors do it: as one string.
"""

import json
import re
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serve_app.errors import BadRequest
from serve_app.types import Chat, Completion, Media, Message, Payload, Tool, ToolCall

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROLES = {"developer": "system"} | {role: role for role in ("system", "user", "assistant", "tool")}


class Prompter:
    """`sees` names the media that the model takes: `image`, `video`."""

    def __init__(
        self,
        tokenizer: "Tokenizer",
        template: str | None,
        special_tokens: dict[str, str],
        sees: frozenset[str] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._sees = sees
        self._template = _environment().from_string(template) if template else None
        self._special_tokens = special_tokens
        added = tokenizer.get_added_tokens_decoder()
        # Some checkpoints don't flag their turn markers as special: what the template writes is control, too.
        self._control = {id for id, token in added.items() if token.special or token.content in (template or "")}

    def encode(self, payload: Payload) -> list[int]:
        """Token ids of a chat or of a plain prompt. Raises BadRequest."""
        if isinstance(payload, Chat):
            return self._chat(payload)
        if isinstance(payload, Completion):
            return self._plain(payload)
        raise BadRequest("This model answers chats and completions; send messages or a prompt.")

    def _chat(self, chat: Chat) -> list[int]:
        if self._template is None:
            raise BadRequest("This model has no chat template; use completions.", param="messages")
        if not any(m.content.strip() or m.media or m.tool_calls for m in chat.messages):
            raise BadRequest("There is nothing to answer; send at least one message with text.", param="messages")
        shield = _Shield(self._tokenizer, self._control)
        messages = [self._as_dict(m, shield, f"messages[{at}]") for at, m in enumerate(chat.messages)]
        offered = chat.tools if chat.tool_choice != "none" else ()
        tools = [_offer(tool, shield, f"tools[{at}]") for at, tool in enumerate(offered)]
        try:
            text = self._template.render(
                messages=messages, tools=tools or None, add_generation_prompt=True, **self._special_tokens
            )
        except TemplateError as fault:
            raise BadRequest(f"The model's chat template refused the messages: {fault}.", param="messages") from fault
        return shield.encode(text)

    def _as_dict(self, message: Message, shield: "_Shield", at: str) -> dict[str, Any]:
        """A message as chat templates know it. Media come before the text, as parts without their content."""
        if message.role not in ROLES:
            raise BadRequest(f"Unknown role; use one of {', '.join(ROLES)}.", param=f"{at}.role")
        content: Any = shield.hide(_valid(message.content, f"{at}.content"))
        if message.media:
            seen = [{"type": self._seen(media, f"{at}.content")} for media in message.media]
            content = [*seen, {"type": "text", "text": content}]
        found = {"role": ROLES[message.role], "content": content}
        if message.tool_calls:
            found["tool_calls"] = [_made(call, shield, f"{at}.tool_calls") for call in message.tool_calls]
        if message.name or message.tool_call_id:
            named = {"name": message.name, "tool_call_id": message.tool_call_id}
            found |= _shielded({key: value for key, value in named.items() if value}, shield, at)
        return found

    def _seen(self, media: Media, param: str) -> str:
        kind = medium(media)
        if kind not in self._sees:
            raise BadRequest(f"This model takes no {kind}; send text, or choose a model that sees.", param=param)
        return kind

    def _plain(self, completion: Completion) -> list[int]:
        if not completion.prompt:
            raise BadRequest("The prompt is empty; send some text.", param="prompt")
        shield = _Shield(self._tokenizer, self._control)
        body = shield.encode(shield.hide(_valid(completion.prompt, "prompt")))
        first, last = self._frame()
        return first + body + last

    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after every text, for example a begin-of-sequence token."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a", add_special_tokens=True).ids
        at = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        return framed[:at], framed[at + len(bare) :]


class _Shield:
    """Hides spelled-out control tokens behind marks while a template runs, then encodes them letter by letter."""

    def __init__(self, tokenizer: "Tokenizer", control: set[int]) -> None:
        self._tokenizer = tokenizer
        self._control = control
        self._hidden: list[str] = []
        self._nonce = secrets.token_hex(8)  # not to be guessed, so that no message can write a mark

    def hide(self, text: str) -> str:
        """The tokenizer itself says which spans it would take for control tokens."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans = [span for id, span in zip(encoding.ids, encoding.offsets, strict=True) if id in self._control]
        for start, end in reversed(spans):
            self._hidden.append(text[start:end])
            text = f"{text[:start]}\ue000{self._nonce}.{len(self._hidden) - 1}\ue001{text[end:]}"
        return text

    def encode(self, text: str) -> list[int]:
        if not self._hidden:
            return self._ids(text)
        parts = re.split(f"\ue000{self._nonce}\\.(\\d+)\ue001", text)
        ids: list[int] = []
        for at, part in enumerate(parts):
            ids += self._spelled(self._hidden[int(part)]) if at % 2 else self._ids(part)
        return ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _spelled(self, text: str) -> list[int]:
        return [id for letter in text for id in self._ids(letter) if id not in self._control]


def medium(media: Media) -> str:
    """`image` or `video`, by what the caller says; the decoder finds out if it is not true."""
    return "video" if media.media_type.startswith("video/") else "image"


def _offer(tool: Tool, shield: _Shield, at: str) -> dict[str, Any]:
    """A tool as chat templates know it."""
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": _shielded(function, shield, at)}


def _made(call: ToolCall, shield: _Shield, at: str) -> dict[str, Any]:
    """A call that the model has made before. Templates write the arguments as JSON themselves."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError as fault:
        raise BadRequest("The arguments of a tool call should be JSON.", param=at) from fault
    function = _shielded({"name": call.name, "arguments": arguments}, shield, at)
    return {"id": call.id, "type": "function", "function": function}


def _shielded(value: Any, shield: _Shield, at: str) -> Any:
    """The same JSON with every text in it, keys included, safe from a template."""
    if isinstance(value, str):
        return shield.hide(_valid(value, at))
    if isinstance(value, list):
        return [_shielded(each, shield, at) for each in value]
    if isinstance(value, dict):
        return {_shielded(key, shield, at): _shielded(each, shield, at) for key, each in value.items()}
    return value


def _valid(text: str, param: str) -> str:
    """JSON can carry half of a surrogate pair, which no tokenizer accepts."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        raise BadRequest("The text is not valid Unicode (unpaired surrogate).", param=param) from fault
    return text


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates expect it: the globals, filters and whitespace rules of transformers."""
    jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    jinja.filters["tojson"] = _to_json
    jinja.globals["raise_exception"] = _refuse
    jinja.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return jinja


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes for HTML, which a model was not trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
