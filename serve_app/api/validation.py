"""Which field of a request is wrong, what is wrong with it, and what would be right, without repeating its text."""

from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.errors import BadRequest

JSON_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}

OWN_WORDS = {
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
    "dict_type": "should be an object",
    "list_type": "should be an array",
    "string_type": "should be a string",
    "bool_type": "should be true or false",
    "int_type": "should be an integer of at most 64 bits",
    "float_type": "should be a number",
}
TYPE_ERRORS = frozenset({*OWN_WORDS, "string_unicode"})


def bad_request(found: Sequence[Mapping[str, Any]], body: object) -> BadRequest:
    """The error to raise for what pydantic `found` in `body`. `param` is the dotted path of the first field."""
    first = found[0]
    param = ".".join(path(first, body)) or None
    subject = f"'{param}'" if param else "The request body"
    others = f" {len(found) - 1} more found." if len(found) > 1 else ""
    return BadRequest(f"{subject} {_complaint(first)}.{others}", param=param)


def path(error: Mapping[str, Any], body: object) -> list[str]:
    """The error's location without pydantic's own steps (the tags of unions), which no caller has ever written."""
    steps: list[str] = []
    here = body
    for step in error["loc"]:
        if _leads(step, here):
            here = here[step]  # type: ignore[index]
            steps.append(str(step))
    return [*steps, *_absent(error)]


def _leads(step: str | int, here: object) -> bool:
    if isinstance(here, list):
        return isinstance(step, int) and step < len(here)
    return isinstance(here, dict) and step in here


def _absent(error: Mapping[str, Any]) -> list[str]:
    """The last step to a field that the caller left out, or that says which of several shapes was meant."""
    match error["type"]:
        case "missing":
            return [str(error["loc"][-1])]
        case "union_tag_not_found" | "union_tag_invalid":
            return [error["ctx"]["discriminator"].strip("'")]
    return []


def _complaint(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing" | "union_tag_not_found":
            return "is required"
        case "union_tag_invalid":
            return f"should be one of {error['ctx']['expected_tags']}"
        case kind if kind in TYPE_ERRORS:
            return f"{OWN_WORDS.get(kind, 'should be text')}, not {_kind_of(error['input'])}"
    return str(error["msg"]).removeprefix("Input ").removeprefix("Value error, ").rstrip(".")


def _kind_of(value: object) -> str:
    return JSON_TYPES.get(type(value), "null")
