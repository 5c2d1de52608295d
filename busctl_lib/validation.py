"""Check messages against TypedDicts at run time.

`validate` checks and never rewrites: msgspec judges the types, and what msgspec lets pass (unknown keys, NaN and
infinity, which JSON cannot carry) is refused here. Every refusal names the field, what was expected and what was found.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_type_hints

import msgspec
from msgspec import inspect as types

from busctl_lib.errors import InvalidMessage


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Guess the name that was meant; None when nothing is close."""
    by_folded = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


_type_info = functools.cache(types.type_info)


class Field(NamedTuple):
    """One field of a TypedDict, in the order of its declaration."""

    name: str
    type: types.Type
    required: bool


@functools.cache
def fields_of(schema: type) -> dict[str, Field]:
    """List the fields of a TypedDict by name, in declaration order (msgspec alone sorts them)."""
    info = _type_info(schema)
    if not isinstance(info, types.TypedDictType):
        raise TypeError(f"{schema!r} is not a TypedDict")
    known = {field.name: field for field in info.fields}
    return {name: Field(name, known[name].type, known[name].required) for name in get_type_hints(schema)}


def validate(message: object, schema: type, name: str | None = None) -> None:
    """Check a message against its TypedDict; the message stays as it is.

    Args:
        message: what would be encoded as JSON.
        schema: a TypedDict class; one whose `__closed__` is False may have other fields as well.
        name: what errors call it; its `action` unless given.

    Raises:
        InvalidMessage: facts `field` (a path like `bids[0][1]`, "" for the whole), `expected`, `found`, `action`.

    """
    action = name or (message.get("action") if isinstance(message, Mapping) else None)
    try:
        _look(message, _type_info(schema), "")
        msgspec.convert(message, schema)
    except msgspec.ValidationError as error:
        raise _refusal(error, message, schema, action) from None
    except _Fault as fault:
        raise invalid(fault.field, fault.expected, fault.found, action, fault.hint) from None


class _Fault(Exception):
    """What msgspec does not refuse, on its way to an InvalidMessage."""

    def __init__(self, field: str, expected: str, found: str, hint: str | None = None) -> None:
        super().__init__(field)
        self.field, self.expected, self.found, self.hint = field, expected, found, hint


def _look(value: object, kind: types.Type | None, path: str) -> None:
    """Refuse unknown keys and numbers that JSON has no word for, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _Fault(path, describe(kind) if kind else "a finite number", str(value), "JSON has no NaN and no infinity")
    if isinstance(value, Mapping):
        known = fields_of(kind.cls) if isinstance(kind, types.TypedDictType) else None
        for key, item in value.items():
            if not isinstance(key, str):
                raise _Fault(path, "an object with text keys", f"the key {key!r}")
            if known is not None and key not in known and not _is_open(kind):
                _refuse_key(key, known, path)
            inner = known[key].type if known and key in known else getattr(kind, "value_type", None)
            _look(item, inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _look(item, _item_type(kind, index), f"{path}[{index}]")


def _is_open(kind: types.Type | None) -> bool:
    return isinstance(kind, types.TypedDictType) and getattr(kind.cls, "__closed__", None) is False


def _refuse_key(key: str, known: Mapping[str, Field], path: str) -> None:
    meant = nearest(key, known)
    name = key if key.isidentifier() else show(key)
    raise _Fault(
        f"{path}.{name}" if path else name,
        f"one of the fields {', '.join(known)}",
        "a field that is not in the schema",
        f"did you mean {meant!r}?" if meant else None,
    )


def _item_type(kind: types.Type | None, index: int) -> types.Type | None:
    if isinstance(kind, types.ListType | types.VarTupleType):
        return kind.item_type
    if isinstance(kind, types.TupleType) and index < len(kind.item_types):
        return kind.item_types[index]
    return None


_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>.+)`")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]")


def _refusal(error: msgspec.ValidationError, message: object, schema: type, action: object) -> InvalidMessage:
    """Turn msgspec's sentence into field, expected and found, by walking its path through message and schema."""
    match = _PATH.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    kind: types.Type | None = _type_info(schema)
    value = message
    for step in _STEP.finditer(path):
        if step["key"] is not None:
            kind = fields_of(kind.cls)[step["key"]].type if isinstance(kind, types.TypedDictType) else None
            value = value.get(step["key"]) if isinstance(value, Mapping) else None
        else:
            kind = _item_type(kind, int(step["index"]))
            value = value[int(step["index"])] if isinstance(value, Sequence) else None
    field = path.removeprefix(".")
    missing = _MISSING.search(what)
    if missing and isinstance(kind, types.TypedDictType):
        wanted = fields_of(kind.cls)[missing["name"]]
        return invalid(f"{field}.{wanted.name}" if field else wanted.name, describe(wanted.type), "nothing", action)
    return invalid(field, describe(kind) if kind else what, show(value), action)


def invalid(field: str, expected: str, found: str, action: object, hint: str | None = None) -> InvalidMessage:
    """Make the error that names a field, what was expected there and what was found."""
    where = f"{field}: " if field else ""
    what = f"{action}: " if isinstance(action, str) and action.isidentifier() else ""
    return InvalidMessage(
        f"{what}{where}expected {expected}, found {found}",
        hint=hint,
        field=field,
        expected=expected,
        found=found,
        action=action if isinstance(action, str) else None,
    )


def show(value: object) -> str:
    """Write a value as JSON for an error text, cut to a line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe(kind: types.Type) -> str:
    """Say what a type allows: `a number > 0`, `one of "buy", "sell"`."""
    words = _WORDS.get(type(kind))
    return words(kind) if words else "a value"


def _choices(kind: types.LiteralType) -> str:
    allowed = ", ".join(show(value) for value in sorted(kind.values, key=str))
    return allowed if len(kind.values) == 1 else f"one of {allowed}"


def _tuple(kind: types.TupleType) -> str:
    return f"an array of {len(kind.item_types)}: {', '.join(describe(item) for item in kind.item_types)}"


def _bounds(kind: types.IntType | types.FloatType) -> str:
    signs = ((">", kind.gt), (">=", kind.ge), ("<", kind.lt), ("<=", kind.le))
    found = [f"{sign} {bound:g}" for sign, bound in signs if bound is not None]
    return f" {' and '.join(found)}" if found else ""


def _lengths(kind: types.StrType) -> str:
    if kind.pattern is not None:
        return f" like {kind.pattern}"
    if kind.min_length is None and kind.max_length is None:
        return ""
    return f" of {kind.min_length or 0} to {kind.max_length} characters" if kind.max_length else " that is not empty"


_WORDS: dict[type, Callable[[Any], str]] = {
    types.LiteralType: _choices,
    types.IntType: lambda kind: f"an integer{_bounds(kind)}",
    types.FloatType: lambda kind: f"a number{_bounds(kind)}",
    types.StrType: lambda kind: f"a text{_lengths(kind)}",
    types.BoolType: lambda kind: "true or false",
    types.NoneType: lambda kind: "null",
    types.UnionType: lambda kind: " or ".join(describe(member) for member in kind.types),
    types.TupleType: _tuple,
    types.ListType: lambda kind: f"an array, each {describe(kind.item_type)}",
    types.TypedDictType: lambda kind: "an object",
    types.DictType: lambda kind: "an object",
}
