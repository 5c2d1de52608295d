"""Check messages against TypedDicts at run time, and read the requests of RPC methods from words.

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


def validate(message: object, schema: type) -> None:
    """Check a message against its TypedDict; the message stays as it is.

    Args:
        message: what would be encoded as JSON.
        schema: a TypedDict class.

    Raises:
        InvalidMessage: facts `field` (a path like `bids[0][1]`, "" for the whole), `expected`, `found`, `action`.

    """
    action = message.get("action") if isinstance(message, Mapping) else None
    try:
        _look(message, _type_info(schema), "")
        msgspec.convert(message, schema)
    except msgspec.ValidationError as error:
        raise _refusal(error, message, schema, action) from None
    except _Fault as fault:
        raise _invalid(fault.field, fault.expected, fault.found, action, fault.hint) from None


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
            if known is not None and key not in known:
                _refuse_key(key, known, path)
            inner = known[key].type if known is not None else getattr(kind, "value_type", None)
            _look(item, inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _look(item, _item_type(kind, index), f"{path}[{index}]")


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
        return _invalid(f"{field}.{wanted.name}" if field else wanted.name, describe(wanted.type), "nothing", action)
    return _invalid(field, describe(kind) if kind else what, show(value), action)


def _invalid(field: str, expected: str, found: str, action: object, hint: str | None = None) -> InvalidMessage:
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


# --- RPC methods -----------------------------------------------------------------------------------------------------


class Method(msgspec.Struct, frozen=True):
    """One method that answers on the bus."""

    name: str
    """Also the `action` of its request."""
    queue: str
    request: type
    reply: type
    help: str

    @property
    def fields(self) -> list[Field]:
        """The arguments in positional order: the request's fields but the action."""
        return [field for name, field in fields_of(self.request).items() if name != "action"]

    @property
    def signature(self) -> str:
        """The arguments as a usage line: `user_id symbol [depth]`."""
        return " ".join(field.name if field.required else f"[{field.name}]" for field in self.fields)


_PAIR = re.compile(r"^(?P<name>[A-Za-z_]\w*)(?P<sign>:=|=)(?P<text>.*)$", re.DOTALL)


def coerce(method: Method, args: Sequence[str]) -> dict[str, Any]:
    """Make the request of a method from the words of a command line.

    Args:
        method: whose request it is.
        args: positional by field order, `name=text` (read by the field's type) or `name:=json`.

    Returns:
        The message with its action, valid by the method's schema.

    Raises:
        InvalidMessage: naming the field.

    """
    fields = method.fields
    given: dict[str, Any] = {}
    waiting = iter(fields)
    for word in args:
        pair = _PAIR.match(word)
        if pair is None:
            field = next(waiting, None)
            if field is None:
                most = f"at most {len(fields)} arguments ({method.signature or 'it takes none'})"
                raise _invalid("", most, f"one more: {word!r}", method.name)
            value = _read(field, word, method)
        else:
            field = _named(pair["name"], method)
            value = _json(field, pair["text"], method) if pair["sign"] == ":=" else _read(field, pair["text"], method)
        if field.name in given:
            raise _invalid(field.name, "one value", f"a second one: {word!r}", method.name)
        given[field.name] = value
    message = {"action": method.name} | {field.name: given[field.name] for field in fields if field.name in given}
    validate(message, method.request)
    return message


def _named(name: str, method: Method) -> Field:
    for field in method.fields:
        if field.name == name:
            return field
    meant = nearest(name, [field.name for field in method.fields])
    raise _invalid(
        name,
        f"an argument of {method.name} ({method.signature or 'it takes none'})",
        "a name that is not one",
        method.name,
        f"did you mean {meant!r}?" if meant else None,
    )


def _json(field: Field, text: str, method: Method) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise _invalid(field.name, f"{describe(field.type)} as JSON after :=", show(text), method.name) from None


def _read(field: Field, text: str, method: Method) -> Any:
    """Read a word by the type of its field."""
    for kind in field.type.types if isinstance(field.type, types.UnionType) else (field.type,):
        try:
            return _READERS.get(type(kind), json.loads)(text)
        except ValueError:
            continue
    raise _invalid(field.name, describe(field.type), show(text), method.name)


def _number(text: str) -> int | float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else number


_READERS: dict[type, Any] = {types.StrType: str, types.LiteralType: str, types.FloatType: _number}
