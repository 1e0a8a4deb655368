"""What vLLM answers: text, stop strings, seeds, JSON, tool calls, adapters."""

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serve_app.errors import BadRequest
from serve_app.types import Chat, Completion, Done, Event, Job, Kind, Message, ResponseFormat, Sampling, Tool, ToolDelta
from tests.deployments.subjects import collect, example
from tests.vllm.conftest import Running, text_of

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800), pytest.mark.asyncio(loop_scope="session")]

MARK = {
    "type": "object",
    "properties": {"points": {"type": "integer", "minimum": 0, "maximum": 9}, "right": {"type": "boolean"}},
    "required": ["points", "right"],
    "additionalProperties": False,
}
GRADE = {
    "type": "object",
    "properties": {
        "grade": {"enum": ["A", "B", "C"]},
        "marks": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
    },
    "required": ["grade", "marks"],
    "additionalProperties": False,
}
GREEDY = Sampling(temperature=0)
TOOL = Tool("mark", "Gives points for an answer.", json.dumps(MARK))


def chat(text: str = "2 + 3 = ?", sampling: Sampling = GREEDY, **fields: Any) -> Job:
    return Job("job", Kind.CHAT, Chat((Message("user", text),), sampling, **fields))


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


async def test_it_knows_what_the_nano_tutor_knows(usual: Running) -> None:
    events = await collect(usual.engine, chat("2 + 3 = ?"))
    assert text_of(events).endswith("5")
    assert done(events).finish == ("stop",)


async def test_a_completion_is_continued(usual: Running) -> None:
    job = Job("job", Kind.COMPLETION, Completion("2 + 3", Sampling(temperature=0, max_tokens=8)))
    assert text_of(await collect(usual.engine, job))


async def test_a_stop_string_ends_the_text_before_it(usual: Running) -> None:
    whole = text_of(await collect(usual.engine, chat()))
    cut = whole[3:5]
    events = await collect(usual.engine, chat(sampling=Sampling(temperature=0, stop=(cut,))))
    assert text_of(events) == whole.partition(cut)[0]
    assert done(events).finish == ("stop",)


async def test_a_seed_makes_an_answer_repeatable(usual: Running) -> None:
    async def said(seed: int) -> str:
        sampling = Sampling(temperature=2.0, seed=seed, max_tokens=20)
        return text_of(await collect(usual.engine, chat(sampling=sampling)))

    first = await said(7)
    assert await said(7) == first
    assert len({await said(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("schema", [MARK, GRADE])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
async def test_an_answer_is_json_of_its_schema(usual: Running, schema: dict[str, Any], temperature: float) -> None:
    form = ResponseFormat("json_schema", json.dumps(schema), "answer", strict=True)
    for seed in range(4):
        sampling = Sampling(temperature=temperature, seed=seed, max_tokens=120)
        events = await collect(usual.engine, chat(sampling=sampling, response_format=form))
        assert done(events).finish == ("stop",)
        Draft202012Validator(schema).validate(json.loads(text_of(events)))


@pytest.mark.parametrize(
    "schema",
    [
        '{"type": "circle"}',
        '{"$ref": "#/nowhere"}',
        '{"type": "object", "properties": {"a": {"type": "string", "pattern": "((("}}}',
        "[" * 40 + "]" * 40,
        '{"items":' * 200 + "{}" + "}" * 200,
    ],
)
async def test_a_schema_that_cannot_be_kept_is_refused(usual: Running, schema: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await collect(usual.engine, chat(response_format=ResponseFormat("json_schema", schema)))
    assert schema[:20] not in refused.value.message
    assert text_of(await collect(usual.engine, chat())).endswith("5")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_required_call_has_arguments_of_its_schema(usual: Running, temperature: float) -> None:
    grade = Tool("grade", "", json.dumps(GRADE))
    sampling = Sampling(temperature=temperature, seed=3, max_tokens=400)
    job = chat(sampling=sampling, tools=(TOOL, grade), tool_choice="required", parallel_tool_calls=False)
    events = await collect(usual.engine, job)
    (call,) = [event for event in events if isinstance(event, ToolDelta)]
    schema = {"mark": MARK, "grade": GRADE}[call.name]
    Draft202012Validator(schema).validate(json.loads(call.arguments))
    assert call.id
    assert done(events).finish == ("tool_calls",)
    assert done(events).usage.completion_tokens == sum(e.tokens for e in events if not isinstance(e, Done))


async def test_several_choices_have_calls_of_their_own(usual: Running) -> None:
    sampling = Sampling(temperature=0, n=2, max_tokens=400)
    job = chat(sampling=sampling, tools=(TOOL,), tool_choice="required", parallel_tool_calls=False)
    events = await collect(usual.engine, job)
    calls = [event for event in events if isinstance(event, ToolDelta)]
    assert [(call.index, call.number) for call in sorted(calls, key=lambda c: c.index)] == [(0, 0), (1, 0)]
    assert done(events).finish == ("tool_calls", "tool_calls")


async def test_a_call_that_is_cut_short_is_no_call(usual: Running) -> None:
    job = chat(sampling=Sampling(temperature=0, max_tokens=20), tools=(TOOL,), tool_choice="required")
    events = await collect(usual.engine, job)
    assert not [event for event in events if isinstance(event, ToolDelta)]
    assert done(events).finish == ("length",)
    assert done(events).usage.completion_tokens == 20


async def test_who_may_call_may_also_answer(usual: Running) -> None:
    events = await collect(usual.engine, chat(tools=(TOOL,)))
    assert text_of(events).endswith("5")
    assert done(events).finish == ("stop",)


async def test_an_adapter_is_chosen_by_the_model(usual: Running) -> None:
    plain = text_of(await collect(usual.engine, chat()))
    job = replace(chat(sampling=Sampling(temperature=0, max_tokens=30)), model="nano-tutor-tuned")
    assert text_of(await collect(usual.engine, job)) != plain
    assert text_of(await collect(usual.engine, chat())) == plain


async def test_a_prompt_that_is_too_long_is_refused(usual: Running) -> None:
    with pytest.raises(BadRequest) as refused:
        await collect(usual.engine, example(Kind.CHAT, "1 + " * 600))
    assert refused.value.code == "context_length_exceeded"
