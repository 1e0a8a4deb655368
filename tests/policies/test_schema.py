"""Our subset of JSON Schema against the reference implementation, and against what is meant to hurt."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from serve_app.policies.schema import DEEPEST, complaint, fault, parsed

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-3, 9) | st.sampled_from([0.5, 1.0, 2.5, -1e300, 2**70])
PLAIN = st.none() | st.booleans() | NUMBERS | st.text("ab한", max_size=3)
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3), max_leaves=8)
TYPES = st.sampled_from(["object", "array", "string", "boolean", "null", "number", "integer"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    size, several = st.integers(0, 3), st.lists(inner, min_size=1, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
        "enum": st.lists(PLAIN, min_size=1, max_size=3),
        "const": PLAIN,
        "properties": st.dictionaries(NAMES, inner, max_size=3),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "additionalProperties": inner,
        "items": inner,
        "prefixItems": several,
        "uniqueItems": st.booleans(),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], st.integers(-2, 5)),
        **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], size),
        **dict.fromkeys(["anyOf", "oneOf", "allOf"], several),
        "not": inner,
        "$ref": st.just("#/$defs/x"),
        "format": st.just("email"),
        "title": st.text(max_size=3),
    }
    return st.lists(st.sampled_from(list(keywords)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: keywords[name] for name in chosen})
    )


LEAVES = schemas(st.booleans())
SCHEMAS = st.recursive(LEAVES, schemas, max_leaves=4)


@settings(max_examples=1_500, deadline=None)
@given(SCHEMAS, st.fixed_dictionaries({"type": TYPES}), VALUES)
def test_it_judges_as_the_reference_does(schema: dict[str, Any], definition: dict[str, Any], value: Any) -> None:
    whole = {**schema, "$defs": {"x": definition}}
    assert complaint(whole) is None
    assert (fault(value, whole) is None) == Draft202012Validator(whole).is_valid(value)


@pytest.mark.parametrize(
    "schema",
    [
        5,
        {"type": "text"},
        {"type": [1]},
        {"properties": []},
        {"properties": {"a": 1}},
        {"required": "a"},
        {"required": [1]},
        {"enum": "ab"},
        {"anyOf": {}},
        {"items": [True]},
        {"minimum": "1"},
        {"maxLength": True},
        {"multipleOf": 0},
        {"$ref": "#/$defs/none"},
        {"$ref": "http://127.0.0.1/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/x", "x": 5},
    ],
)
def test_a_bad_schema_is_named(schema: Any) -> None:
    assert complaint(schema)


def test_schemas_that_are_meant_to_hurt() -> None:
    circle = {"$ref": "#"}
    bush: dict[str, Any] = {"$defs": {"0": False}, "$ref": "#/$defs/40"}
    for at in range(1, 41):
        bush["$defs"][str(at)] = {"anyOf": [{"$ref": f"#/$defs/{at - 1}"}] * 2}
    started = time.thread_time()
    assert complaint(circle) is None
    assert fault(1, circle) == "$: complexity"
    assert complaint(bush) is None
    assert fault(1, bush)
    assert fault("a" * 40 + "!", {"pattern": "^(a+)+$", "patternProperties": {"^(a+)+$": False}}) is None
    assert time.thread_time() - started < 3
    deep: Any = True
    for _ in range(DEEPEST + 2):
        deep = {"not": deep}
    assert complaint(deep)
    nested = parsed("[" * 900 + "]" * 900)
    assert fault(nested, {"enum": [1]})
    assert fault(parsed("1e999"), {"type": "integer", "multipleOf": 2})


def test_a_fault_names_the_place_and_not_the_value() -> None:
    schema = {"properties": {"who": {"items": {"type": "string"}}}, "additionalProperties": False, "required": ["who"]}
    assert fault({"who": ["a", 5]}, schema) == "$.who.1: type"
    assert fault({}, schema) == "$: who is required"
    assert fault({"who": [], "secret": 1}, schema) == "$.*: not allowed"


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": Infinity}', "[" * 100_000, "Infinity"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"^no JSON|^nested|^Expecting"):
        parsed(text)
