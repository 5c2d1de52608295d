"""JSON Schema -> TypedDict: what a team's schema files say becomes what `validate` checks and a command line reads.

The part of JSON Schema that describes messages is understood; a keyword that would be passed over in silence is refused
by its place instead, since a check that checks less than it says is worse than none.
Source: https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict, Union

import msgspec
from msgspec import Meta

from busctl_lib.errors import ConfigError
from busctl_lib.validation import fields_of, nearest

_SPEAKING = {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"}
_SPEAKING |= {"deprecated", "readOnly", "writeOnly", "format", "contentMediaType", "contentEncoding"}
"""Keywords that say something to people, and check nothing."""
_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_LENGTHS = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_ITEMS = {"minItems": "min_length", "maxItems": "max_length"}
_OWN: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", *_ITEMS},
    "string": set(_LENGTHS),
    "integer": set(_BOUNDS),
    "number": set(_BOUNDS),
    "boolean": set(),
    "null": set(),
}
_ANY_TYPE = {"type", "enum", "const", "anyOf", "oneOf", "$ref"}
_DEPTH = 50


def typed_dict(name: str, schema: Any) -> type:
    """Make the TypedDict of a JSON Schema.

    Args:
        name: what the type is called.
        schema: the schema, parsed; its top must be an object. `$ref` may point into itself.

    Returns:
        A TypedDict class for `validate`; its `__closed__` is False where the schema allows further fields.

    Raises:
        ConfigError: something in it is wrong or not understood (fact `pointer`).
    """
    made = _Reader(name, schema).read(schema, "#", 0)
    if not (isinstance(made, type) and hasattr(made, "__required_keys__")):
        raise _error("#", "the schema of a message is of an object", "give it type, properties and required")
    try:
        fields_of(made)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise _error("#", f"it cannot be checked: {error}") from error
    return made


def help_of(schema: Any) -> dict[str, str]:
    """Give the descriptions of an object schema's properties."""
    found = _properties(schema, "description")
    return {name: text for name, text in found.items() if isinstance(text, str)}


def defaults_of(schema: Any) -> dict[str, Any]:
    """Give the defaults of an object schema's properties."""
    return _properties(schema, "default")


def _properties(schema: Any, keyword: str) -> dict[str, Any]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return {}
    return {name: of[keyword] for name, of in properties.items() if isinstance(of, Mapping) and keyword in of}


def _error(pointer: str, text: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{pointer}: {text}", hint=hint, pointer=pointer)


class _Reader:
    def __init__(self, name: str, root: Any) -> None:
        self._name = name
        self._root = root

    def read(self, schema: Any, at: str, depth: int) -> Any:
        """Give the type of a schema."""
        if schema is True:
            return Any
        if not isinstance(schema, Mapping):
            raise _error(at, f"expected a schema, which is an object, found {str(schema)[:40]}")
        if depth > _DEPTH:
            raise _error(at, "it is nested too deeply, or refers to itself")
        kinds = self._kinds(schema, at)
        self._check_keywords(schema, kinds, at)
        if "$ref" in schema:
            return self.read(self._target(schema["$ref"], at), str(schema["$ref"]), depth + 1)
        if "const" in schema or "enum" in schema:
            return self._literal([schema["const"]] if "const" in schema else schema["enum"], at)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._union(schema[keyword], f"{at}/{keyword}", depth)
        return _joined([self._of_kind(kind, schema, at, depth) for kind in kinds]) if kinds else Any

    def _kinds(self, schema: Mapping[str, Any], at: str) -> list[str]:
        given = schema.get("type", "object" if "properties" in schema else [])
        kinds = given if isinstance(given, list) else [given]
        for kind in kinds:
            if not isinstance(kind, str) or kind not in _OWN:
                raise _error(f"{at}/type", f"no type {kind!r}", f"there are: {', '.join(_OWN)}")
        return kinds

    def _check_keywords(self, schema: Mapping[str, Any], kinds: list[str], at: str) -> None:
        known = _SPEAKING | _ANY_TYPE | set().union(*(_OWN[kind] for kind in kinds))
        for keyword in schema:
            if keyword not in known:
                near = nearest(keyword, known | set().union(*_OWN.values()))
                hint = (
                    f"did you mean {near!r}?" if near and near != keyword else f"there are: {', '.join(sorted(known))}"
                )
                raise _error(f"{at}/{keyword}", f"{keyword!r} cannot be checked here", hint)

    def _target(self, reference: Any, at: str) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _error(f"{at}/$ref", f"{reference!r} is not in this file", "put it into $defs: #/$defs/NAME")
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise _error(f"{at}/$ref", f"nothing is at {reference!r}")
            found = found[key]
        return found

    def _literal(self, values: Any, at: str) -> Any:
        if not isinstance(values, list) or not values:
            raise _error(f"{at}/enum", "expected a list of values")
        if not all(isinstance(value, str | int | None) for value in values):
            raise _error(f"{at}/enum", "only texts, integers, true, false and null can be listed")
        flags = [bool] * any(isinstance(value, bool) for value in values)
        others = tuple(value for value in values if not isinstance(value, bool))
        return _joined([*flags, Literal[others]] if others else flags)

    def _union(self, members: Any, at: str, depth: int) -> Any:
        if not isinstance(members, list) or not members:
            raise _error(at, "expected a list of schemas")
        joined = _joined([self.read(member, f"{at}/{index}", depth + 1) for index, member in enumerate(members)])
        try:
            msgspec.json.Decoder(joined)
        except TypeError as error:
            raise _error(at, f"these cannot be told apart: {error}".partition(" - ")[0].partition("\n")[0]) from error
        return joined

    def _of_kind(self, kind: str, schema: Mapping[str, Any], at: str, depth: int) -> Any:
        if kind == "object":
            return self._object(schema, at, depth)
        if kind == "array":
            return self._array(schema, at, depth)
        plain: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
        return _limited(plain[kind], schema, _LENGTHS if kind == "string" else _BOUNDS, at)

    def _array(self, schema: Mapping[str, Any], at: str, depth: int) -> Any:
        first = schema.get("prefixItems")
        if isinstance(first, list):
            members = [self.read(one, f"{at}/prefixItems/{index}", depth + 1) for index, one in enumerate(first)]
            return tuple[tuple(members)]  # type: ignore[misc]
        inner = self.read(schema.get("items", True), f"{at}/items", depth + 1)
        return _limited(list[inner], schema, _ITEMS, at)  # type: ignore[valid-type]

    def _object(self, schema: Mapping[str, Any], at: str, depth: int) -> Any:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        more = schema.get("additionalProperties", True)
        named = isinstance(required, list) and all(isinstance(name, str) for name in required)
        if not isinstance(properties, Mapping) or not named:
            raise _error(at, "`properties` is an object and `required` a list of their names")
        if not properties and not required:
            value = self.read(more, f"{at}/additionalProperties", depth + 1) if more is not False else Any
            return dict[str, value] if at != "#" else self._typed_dict({}, more is not False, at)  # type: ignore[valid-type]
        fields: dict[str, Any] = {}
        for name, of in properties.items():
            kind = self.read(of, f"{at}/properties/{name}", depth + 1)
            fields[name] = Required[kind] if name in required else NotRequired[kind]
        fields |= {name: Required[Any] for name in required if name not in fields}
        return self._typed_dict(fields, more is not False, at)

    def _typed_dict(self, fields: dict[str, Any], is_open: bool, at: str) -> Any:
        suffix = at.removeprefix("#").replace("/properties", "").replace("/", "_")
        make: Callable[[str, dict[str, Any]], Any] = TypedDict  # type: ignore[assignment]
        made = make(f"{self._name}{suffix}", fields)
        made.__closed__ = not is_open
        return made


def _limited(kind: Any, schema: Mapping[str, Any], names: Mapping[str, str], at: str) -> Any:
    limits = {ours: schema[name] for name, ours in names.items() if name in schema}
    try:
        return Annotated[kind, Meta(**limits)] if limits and kind not in (bool, None) else kind
    except (TypeError, ValueError, re.error) as error:
        raise _error(at, str(error)) from error


def _joined(kinds: list[Any]) -> Any:
    return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007 - made of values
