"""RPC methods: what can be called where, and how words of a command line become a request."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import inspect as types

from busctl_lib.pairs import PAIR, json_of
from busctl_lib.validation import Field, describe, fields_of, invalid, nearest, show, validate

Replies = Literal["auto", "direct", "queue", "shared"]
BodyKind = Literal["json", "text"]


class Method(msgspec.Struct, frozen=True):
    """One method that answers on the bus."""

    name: str
    queue: str
    """Where requests go; with an exchange, the routing key."""
    request: type | None
    """The TypedDict of its requests; None where nothing is known: any body is taken."""
    reply: type | None = None
    """The TypedDict of its replies, where that is known."""
    help: str = ""
    exchange: str = ""
    fixed: Mapping[str, Any] | None = None
    """Fields every request has beside the arguments; None: its `action`, which is the method's name."""
    defaults: Mapping[str, Any] = {}
    """What is sent for arguments that are not given."""
    argument_help: Mapping[str, str] = {}
    body: BodyKind = "json"
    """text: the one argument is the body as it is."""
    reply_body: BodyKind = "json"
    """text: replies are not JSON."""
    replies: Replies = "auto"
    """How replies come; "shared": by `reply_queue`, which others read as well."""
    reply_queue: str | None = None
    error: str | None = None
    """jq over the reply: what it gives, if neither null nor false, is the error of a request that failed."""
    timeout_s: float | None = None

    @property
    def constants(self) -> dict[str, Any]:
        """The fields every request has beside the arguments."""
        return {"action": self.name} if self.fixed is None else dict(self.fixed)

    @property
    def fields(self) -> list[Field]:
        """The arguments in positional order: the request's fields but the constant ones."""
        if self.request is None:
            return []
        constants = self.constants
        return [field for name, field in fields_of(self.request).items() if name not in constants]

    @property
    def target(self) -> str:
        """Where requests go, in words."""
        return f"{self.exchange}:{self.queue}" if self.exchange else self.queue

    @property
    def signature(self) -> str:
        """The arguments as a usage line: `user_id symbol [depth] [limit=10]`."""
        if self.request is None:
            return "[BODY]"
        return " ".join(self._shown(field) for field in self.fields)

    def choices(self, field: Field) -> list[str]:
        """The values an argument may have, where they are few and known: those of a Literal, true and false."""
        return _choices(field.type)

    def _shown(self, field: Field) -> str:
        if field.name in self.defaults:
            return f"[{field.name}={self.defaults[field.name]}]"
        return field.name if field.required else f"[{field.name}]"


def _choices(kind: types.Type) -> list[str]:
    if isinstance(kind, types.UnionType):
        return [choice for member in kind.types for choice in _choices(member)]
    if isinstance(kind, types.LiteralType):
        return sorted(str(value) for value in kind.values)
    return ["true", "false"] if isinstance(kind, types.BoolType) else []


def coerce(method: Method, args: Sequence[str], base: Mapping[str, Any] | None = None) -> Any:
    """Make the request of a method from the words of a command line.

    Args:
        method: whose request it is.
        args: positional by field order, `name=text` (read by the field's type) or `name:=json`.
        base: fields given otherwise (a file); words go over them.

    Returns:
        The message, valid by the method's schema, with its defaults and constants; of a method of text bodies the
        text; of a method without a schema whatever the words are.

    Raises:
        InvalidMessage: naming the field.

    """
    if method.request is None:
        return free_body(args, base)
    fields = method.fields
    given: dict[str, Any] = {}
    waiting = iter(fields)
    for word in args:
        field, value = _argument(method, word, waiting)
        if field.name in given:
            raise invalid(field.name, "one value", f"a second one: {word!r}", method.name)
        given[field.name] = value
    known = {**method.defaults, **(base or {}), **given}
    names = [field.name for field in fields]
    ordered = {name: known[name] for name in names if name in known} | known
    message = method.constants | ordered
    validate(message, method.request, method.name)
    return _text_body(method, ordered) if method.body == "text" else message


def _argument(method: Method, word: str, waiting: Any) -> tuple[Field, Any]:
    pair = PAIR.match(word)
    if pair is None:
        field = next(waiting, None)
        if field is None:
            most = f"at most {len(method.fields)} arguments ({method.signature or 'it takes none'})"
            raise invalid("", most, f"one more: {word!r}", method.name)
        return field, _read(field, word, method)
    field = _named(pair["name"], method)
    return field, _json(field, pair["text"], method) if pair["sign"] == ":=" else _read(field, pair["text"], method)


def _text_body(method: Method, arguments: Mapping[str, Any]) -> bytes:
    value = next(iter(arguments.values()), "")
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def free_body(args: Sequence[str], base: Mapping[str, Any] | None = None) -> Any:
    """Make a body of words nobody has a schema for: pairs are an object, one word is the body, none are `{}`.

    Raises:
        InvalidMessage: neither pairs nor one body.
    """
    pairs = [PAIR.match(word) for word in args]
    if not all(pairs):
        if len(args) > 1 or base is not None:
            odd = args[pairs.index(None)]
            raise invalid("", "NAME=TEXT or NAME:=JSON pairs, or one body", repr(odd), None, "put a body in quotes")
        return args[0].encode("utf-8", "surrogateescape")
    made: dict[str, Any] = dict(base or {})
    for pair in pairs:
        assert pair is not None
        try:
            made[pair["name"]] = json_of(pair["text"]) if pair["sign"] == ":=" else pair["text"]
        except ValueError:
            raise invalid(pair["name"], "JSON after :=", show(pair["text"]), None) from None
    return made


def content_type_of(body: bytes) -> str:
    """Name what a body is by looking at it: JSON, text, or bytes."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    try:
        json_of(text)
    except ValueError:
        return "text/plain"
    return "application/json"


def _named(name: str, method: Method) -> Field:
    for field in method.fields:
        if field.name == name:
            return field
    meant = nearest(name, [field.name for field in method.fields])
    raise invalid(
        name,
        f"an argument of {method.name} ({method.signature or 'it takes none'})",
        "a name that is not one",
        method.name,
        f"did you mean {meant!r}?" if meant else None,
    )


def _json(field: Field, text: str, method: Method) -> Any:
    try:
        return json_of(text)
    except ValueError:
        raise invalid(field.name, f"{describe(field.type)} as JSON after :=", show(text), method.name) from None


def _read(field: Field, text: str, method: Method) -> Any:
    """Read a word by the type of its field."""
    for kind in field.type.types if isinstance(field.type, types.UnionType) else (field.type,):
        try:
            return _READERS.get(type(kind), json_of)(text)
        except ValueError:
            continue
    raise invalid(field.name, describe(field.type), show(text), method.name)


def _number(text: str) -> int | float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else number


def _anything(text: str) -> Any:
    try:
        return json_of(text)
    except ValueError:
        return text


_READERS: dict[type, Any] = {
    types.StrType: str,
    types.LiteralType: str,
    types.FloatType: _number,
    types.AnyType: _anything,
}
