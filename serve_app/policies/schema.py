"""JSON Schema, as far as answers of models are held to it: a subset, so that a hostile schema costs no more than any.

Kept are `type`, `enum`, `const`, the bounds of numbers, texts, arrays and objects, `properties`, `required`,
`additionalProperties`, `items`, `prefixItems`, `uniqueItems`, `anyOf`, `oneOf`, `allOf`, `not` and references within
the schema. Patterns and formats are left to the engine: a regular expression of a caller's could run for ever. Any
other keyword allows everything, as in the standard (draft 2020-12).
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

STEPS = 100_000
DEEPEST = 64
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: (isinstance(v, int) and not isinstance(v, bool)) or (isinstance(v, float) and v.is_integer()),
}
BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda v, bound: v >= bound,
    "maximum": lambda v, bound: v <= bound,
    "exclusiveMinimum": lambda v, bound: v > bound,
    "exclusiveMaximum": lambda v, bound: v < bound,
    "multipleOf": lambda v, of: _is_multiple(v, of),
}
SIZES: Mapping[str, tuple[type, Callable[[int, Any], bool]]] = {
    "minLength": (str, lambda size, bound: size >= bound),
    "maxLength": (str, lambda size, bound: size <= bound),
    "minItems": (list, lambda size, bound: size >= bound),
    "maxItems": (list, lambda size, bound: size <= bound),
    "minProperties": (dict, lambda size, bound: size >= bound),
    "maxProperties": (dict, lambda size, bound: size <= bound),
}
SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
NAMED = ("properties", "$defs", "definitions")


def parsed(text: str) -> Any:
    """JSON as RFC 8259 has it, without `NaN` and `Infinity`. Raises `ValueError`."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def complaint(schema: Any) -> str | None:
    """What is wrong with a schema itself, or None."""
    try:
        _check(schema, schema, 0)
    except ValueError as error:
        return str(error)
    return None


def fault(value: Any, schema: Any) -> str | None:
    """The first place where a value breaks a schema that `complaint` has found good, such as `$.items.0: type`.

    It names keywords and places of the schema's own words, never what the value holds.
    """
    try:
        return next(_Judge(schema).faults(value, schema, "$", 0), None)
    except RecursionError:
        return "$: complexity"


class _Judge:
    """Works through one value, and gives up (`complexity`) when that takes more steps than any honest schema needs."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def faults(self, value: Any, schema: Any, at: str, depth: int) -> Iterator[str]:
        self._steps += 1
        if self._steps > STEPS or depth > DEEPEST:
            yield f"{at}: complexity"
        elif schema is False:
            yield f"{at}: not allowed"
        elif isinstance(schema, dict):
            yield from self._plain(value, schema, at)
            yield from self._combined(value, schema, at, depth + 1)
            if isinstance(value, dict):
                yield from self._members(value, schema, at, depth + 1)
            elif isinstance(value, list):
                yield from self._items(value, schema, at, depth + 1)

    def _plain(self, value: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        """Keywords that look at the value alone."""
        types = schema.get("type", [])
        types = [types] if isinstance(types, str) else types
        if types and not any(TYPES[name](value) for name in types):
            yield f"{at}: type"
        if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
            yield f"{at}: enum"
        if "const" in schema and not _same(value, schema["const"]):
            yield f"{at}: const"
        if TYPES["number"](value):
            yield from (f"{at}: {k}" for k, holds in BOUNDS.items() if k in schema and not holds(value, schema[k]))
        for keyword, (kind, holds) in SIZES.items():
            if keyword in schema and isinstance(value, kind) and not holds(len(value), schema[keyword]):  # type: ignore[arg-type]
                yield f"{at}: {keyword}"

    def _combined(self, value: Any, schema: Mapping[str, Any], at: str, depth: int) -> Iterator[str]:
        for one in schema.get("allOf", ()):
            yield from self.faults(value, one, at, depth)
        if "$ref" in schema:
            yield from self.faults(value, _pointed(self._root, schema["$ref"]), at, depth)
        if "anyOf" in schema and not any(self._fits(value, one, depth) for one in schema["anyOf"]):
            yield f"{at}: anyOf"
        if "oneOf" in schema and sum(self._fits(value, one, depth) for one in schema["oneOf"]) != 1:
            yield f"{at}: oneOf"
        if "not" in schema and self._fits(value, schema["not"], depth):
            yield f"{at}: not"

    def _fits(self, value: Any, schema: Any, depth: int) -> bool:
        return next(self.faults(value, schema, "", depth), None) is None

    def _members(self, value: dict[str, Any], schema: Mapping[str, Any], at: str, depth: int) -> Iterator[str]:
        known = schema.get("properties", {})
        yield from (f"{at}: {name[:64]} is required" for name in schema.get("required", ()) if name not in value)
        for name, one in known.items():
            if name in value:
                yield from self.faults(value[name], one, f"{at}.{name[:64]}", depth)
        if "additionalProperties" in schema and "patternProperties" not in schema:
            for name in value.keys() - known.keys():
                yield from self.faults(value[name], schema["additionalProperties"], f"{at}.*", depth)

    def _items(self, value: list[Any], schema: Mapping[str, Any], at: str, depth: int) -> Iterator[str]:
        first = schema.get("prefixItems", ())
        for number, (item, one) in enumerate(zip(value, first, strict=False)):
            yield from self.faults(item, one, f"{at}.{number}", depth)
        if "items" in schema:
            for number, item in enumerate(value[len(first) :], len(first)):
                yield from self.faults(item, schema["items"], f"{at}.{number}", depth)
        if schema.get("uniqueItems") is True and len({_key(item) for item in value}) < len(value):
            yield f"{at}: uniqueItems"


def _check(schema: Any, root: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError("a schema is an object, or true or false")
    _check_values(schema)
    if "$ref" in schema:
        _pointed(root, schema["$ref"])
    for one in _inner(schema):
        _check(one, root, depth + 1)


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas within a schema."""
    for keyword in SEVERAL:
        if not isinstance(schema.get(keyword, []), list):
            raise ValueError(f"'{keyword}' should be an array of schemas")
        yield from schema.get(keyword, [])
    for keyword in NAMED:
        if not isinstance(schema.get(keyword, {}), dict):
            raise ValueError(f"'{keyword}' should be an object")
        yield from schema.get(keyword, {}).values()
    yield from (schema[keyword] for keyword in ("items", "additionalProperties", "not") if keyword in schema)


def _check_values(schema: Mapping[str, Any]) -> None:
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in TYPES:
            raise ValueError(f"'type' should be one of {', '.join(TYPES)}")
    if not isinstance(schema.get("enum", []), list):
        raise ValueError("'enum' should be an array")
    required = schema.get("required", [])
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise ValueError("'required' should be an array of names")
    for keyword in (*BOUNDS, *SIZES):
        if keyword in schema and not TYPES["number"](schema[keyword]):
            raise ValueError(f"'{keyword}' should be a number")
    if schema.get("multipleOf", 1) <= 0:
        raise ValueError("'multipleOf' should be greater than 0")


def _pointed(root: Any, reference: Any) -> Any:
    """What a reference within the schema points to; nothing is ever fetched. Raises `ValueError`."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise ValueError("'$ref' should point into the same schema, such as '#/$defs/name'")
    here = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and name in here:
            here = here[name]
        elif isinstance(here, list) and name.isdecimal() and int(name) < len(here):
            here = here[int(name)]
        else:
            raise ValueError("'$ref' points to nothing")
    if not isinstance(here, dict | bool):
        raise ValueError("'$ref' points to something that is no schema")
    return here


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    try:
        times = value / of
    except OverflowError:
        return False
    return math.isfinite(times) and math.isclose(times, round(times), rel_tol=1e-12, abs_tol=0)


def _same(one: Any, other: Any) -> bool:
    return _key(one) == _key(other)


def _key(value: Any) -> str:
    """Equal for equal JSON values: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _refuse(_: str) -> None:
    raise ValueError("no JSON number")
