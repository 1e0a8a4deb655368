"""Everything that an answer depends on is in its key; fields are found, not listed, so that a new one is tested too."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from serve_app.policies.caching import key_of, plain
from serve_app.types import Completion, Kind, Message, Wish
from tests.cache.conftest import SECRET, question, served_by


def variants(value: Any) -> Iterator[Any]:
    """`value` with one field, of any depth, changed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            for variant in variants(getattr(value, field.name)):
                yield replace(value, **{field.name: variant})
    elif isinstance(value, tuple):
        yield (*value, value[0] if value else "more")
        for at, item in enumerate(value):
            yield value[:at] + value[at + 1 :]
            yield from ((*value[:at], variant, *value[at + 1 :]) for variant in variants(item))
    elif isinstance(value, str):
        yield value + " "
    else:
        yield (value or 0) + 1


STOPS = [("a", "b"), ("ab",), ("a", "b", ""), ("a,b",)]
FULL = replace(
    question(max_tokens=5, temperature=0.5, top_p=0.9, seed=3, stop=("a", "b")), wish=Wish(needs=frozenset({"json"}))
)
CHAT = replace(FULL.payload, messages=(Message("system", "be brief"), Message("user", "1 + 1")))


@pytest.mark.parametrize("payload", [CHAT, Completion("1 + 1", FULL.payload.sampling)])
def test_every_field_of_a_payload_changes_the_key(payload: Any) -> None:
    jobs = [replace(FULL, payload=variant) for variant in (payload, *variants(payload))]
    keys = [key_of(job, SECRET) for job in jobs]
    assert len(keys) > 8
    assert len(set(keys)) == len(keys)


def test_what_else_changes_the_key() -> None:
    job = question()
    others = [
        question(tenant="b"),
        question(instructions="be brief"),
        question(instructions=""),
        replace(job, kind=Kind.COMPLETION),
        replace(job, wish=Wish(needs=frozenset({"json"}))),
        served_by(job, model="other"),
        served_by(job, version="3"),
    ]
    assert len({key_of(other, SECRET) for other in [job, *others]}) == len(others) + 1
    assert key_of(job, SECRET) != key_of(job, b"another secret")


def test_what_does_not_change_the_key() -> None:
    job = question()
    same = [
        replace(job, id="req-2", traceparent="00-1"),
        replace(job, caller=replace(job.caller, user="student-7", key="k")),
        replace(job, plan=(*job.plan, *job.plan)),
        served_by(job, engine="elsewhere", node_class="spot"),
    ]
    assert {key_of(other, SECRET) for other in same} == {key_of(job, SECRET)}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(STOPS, 2)))
def test_texts_cannot_run_into_each_other(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert key_of(question(stop=one), SECRET) != key_of(question(stop=other), SECRET)


def test_a_key_holds_nothing_that_can_be_read() -> None:
    assert len(key_of(question("my secret " * 50), SECRET)) == 32


def test_what_has_no_form_is_refused_rather_than_left_out() -> None:
    with pytest.raises(TypeError, match="set has no canonical form"):
        plain({"a", "b"})


def test_bytes_are_told_apart() -> None:
    assert plain(b"one") != plain(b"two")
