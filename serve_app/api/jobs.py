"""From wire models to jobs: the only place that knows both vocabularies."""

from collections.abc import Iterator, Mapping

from serve_app.api import functions, wire
from serve_app.api.calls import Call
from serve_app.api.parts import NOTHING, Place
from serve_app.errors import BadRequest
from serve_app.policies.limits import Limits
from serve_app.types import (
    Chat,
    Completion,
    Constraints,
    Job,
    Kind,
    Media,
    Message,
    Payload,
    Priority,
    Sampling,
    Wish,
)

TIERS = {"priority": Priority.PREMIUM, "default": Priority.STANDARD, "flex": Priority.BATCH}
PART_NEEDS = {"image_url": "vision", "video_url": "video", "input_audio": "audio", "file": "files"}


def chat_job(body: wire.ChatRequest, call: Call, limits: Limits, files: Mapping[Place, Media] = NOTHING) -> Job:
    """`files` are those parts of the messages that are no text."""
    _at_most(limits.max_messages, len(body.messages), "messages", "messages")
    _at_most(limits.max_output_tokens, body.max_completion_tokens, "max_completion_tokens")
    payload = Chat(
        tuple(_message(message, at, files) for at, message in enumerate(body.messages)),
        _sampling(body, body.max_completion_tokens or body.max_tokens, limits),
        functions.tools(body),
        functions.tool_choice(body),
        body.parallel_tool_calls is not False,
        functions.response_format(body),
    )
    wish = _wish(body, frozenset(_chat_needs(body)), call, whole=not body.stream)
    return _job(call.id, Kind.CHAT, payload, body, wish, call)


def completion_jobs(body: wire.CompletionRequest, call: Call, limits: Limits) -> list[Job]:
    """One job per prompt, each with an id of its own."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    _at_most(limits.max_prompts, len(prompts), "prompt", "prompts")
    sampling = _sampling(body, body.max_tokens, limits)
    whole = not body.stream and len(prompts) == 1  # several prompts are one answer, of which parts are passed on
    wish = _wish(body, frozenset(_completion_needs(body)), call, whole)
    ids = [call.id, *(f"{call.id}.{number}" for number in range(1, len(prompts)))]
    return [
        _job(job_id, Kind.COMPLETION, Completion(prompt, sampling), body, wish, call)
        for job_id, prompt in zip(ids, prompts, strict=True)
    ]


def _job(job_id: str, kind: Kind, payload: Payload, body: wire.Generation, wish: Wish, call: Call) -> Job:
    return Job(
        id=job_id,
        kind=kind,
        payload=payload,
        caller=call.caller_for(body.safety_identifier or body.user),
        wish=wish,
        constraints=Constraints(priority=max(call.caller.tier, TIERS.get(body.service_tier or "", call.caller.tier))),
        traceparent=call.traceparent,
    )


def _wish(body: wire.Generation, needs: frozenset[str], call: Call, whole: bool) -> Wish:
    hints = body.metadata or wire.Metadata()
    return Wish(
        model=body.model,
        zone=hints.zone,
        task=hints.task,
        locale=hints.locale,
        template=hints.template,
        host=call.host,
        needs=needs,
        no_store=call.no_store,
        whole=whole,
    )


def _sampling(body: wire.Generation, max_tokens: int | None, limits: Limits) -> Sampling:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    _at_most(limits.max_output_tokens, body.max_tokens, "max_tokens")
    _at_most(limits.max_choices, body.n, "n")
    _at_most(limits.max_stop_strings, len(stop), "stop", "stop strings")
    if body.stream_options and not body.stream:
        raise BadRequest("'stream_options' only goes with 'stream': true.", param="stream_options")
    return Sampling(
        max_tokens,
        body.temperature,
        body.top_p,
        body.seed,
        stop,
        body.n or 1,
        body.frequency_penalty or 0.0,
        body.presence_penalty or 0.0,
        _biases(body.logit_bias or {}),
    )


def _biases(wanted: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    try:
        return tuple((int(token), float(bias)) for token, bias in wanted.items() if bias)
    except ValueError:
        raise BadRequest("'logit_bias' should map ids of tokens to numbers.", param="logit_bias") from None


def _at_most(limit: int, value: int | None, param: str, unit: str = "") -> None:
    if value is not None and value > limit:
        raise BadRequest(f"'{param}' should be at most {f'{limit} {unit}'.rstrip()}.", param=param)


def _message(message: wire.ChatMessage, at: int, files: Mapping[Place, Media]) -> Message:
    return Message(
        message.role,
        _text(message.content),
        functions.calls(message) if isinstance(message, wire.AssistantMessage) else (),
        message.tool_call_id if isinstance(message, wire.ToolMessage) else None,
        None if isinstance(message, wire.ToolMessage) else message.name,
        tuple(file for (where, _), file in files.items() if where == at),
    )


def _text(content: str | list[wire.Part] | None) -> str:
    """Text parts, one per line. Other parts are turned into needs, which only a model that takes them satisfies."""
    if not isinstance(content, list):
        return content or ""
    texts = (getattr(part, "text", None) or getattr(part, "refusal", None) for part in content)
    return "\n".join(text for text in texts if text)


def _chat_needs(body: wire.ChatRequest) -> Iterator[str]:
    yield from _penalties(body)
    if body.tools or body.tool_choice not in (None, "none", "auto"):
        yield "tools"
    if body.response_format and body.response_format.type != "text":
        yield "json"
    if body.logprobs or body.top_logprobs:
        yield "logprobs"
    if "audio" in (body.modalities or ()):
        yield "audio"
    for message in body.messages:
        parts = message.content if isinstance(message.content, list) else ()
        yield from (PART_NEEDS[part.type] for part in parts if part.type in PART_NEEDS)


def _completion_needs(body: wire.CompletionRequest) -> Iterator[str]:
    yield from _penalties(body)
    if body.logprobs is not None:
        yield "logprobs"
    if body.suffix:
        yield "suffix"


def _penalties(body: wire.Generation) -> Iterator[str]:
    if body.frequency_penalty or body.presence_penalty or any((body.logit_bias or {}).values()):
        yield "penalties"
