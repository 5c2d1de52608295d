"""Delivery <-> document: the JSON form of a message that `-o jsonl` prints, jq reads and a person can edit.

Keys always come in one order and absent is absent: what is not known, or not there, has no key. Header values that JSON
does not have are objects with one `$` key (`{"$bytes": base64}`, `{"$timestamp": ISO}`, `{"$decimal": "1.23"}`,
`{"$float": "nan"}`), and so are numbers where the exact AMQP type matters (`{"$int8": 5}`); a header whose own name
begins with `$` gets one more `$`, so neither can be taken for the other.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import math
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import msgspec

from busctl_lib.codecs import KEY_ID_HEADER, Keyring, decode_body, steps_of
from busctl_lib.envelope import PROPERTY_NAMES, Death, Delivery, Properties, TypedBytes, TypedFloat, TypedInt
from busctl_lib.errors import CodecError, InvalidMessage

_PLAIN = (str, int, bool, type(None))
_PROPERTIES = tuple(name for name in PROPERTY_NAMES if name != "headers")
_encode = msgspec.json.Encoder().encode
_NOT_SHOWN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What JSON lets through and a terminal acts on: DEL, the second control block, line separators, text direction."""


def document(delivery: Delivery, *, keys: Keyring | None = None) -> dict[str, Any]:
    """Build the document of a delivery as a dict; `body` is the parsed JSON, where the body is JSON.

    Args:
        delivery: stays as it is.
        keys: to decrypt with.
    """
    found, _ = _all_but_body(delivery, keys)
    text = found.get("text")
    if text is not None and not _is_cut(delivery):
        parsed = _parse(text)
        if parsed is not _NOT_JSON:
            found["body"] = parsed
    return found


def capture_document(delivery: Delivery) -> dict[str, Any]:
    """Build the document that a capture keeps: every header type exact, absent headers absent, nothing twice."""
    found = _head(delivery)
    del found["deaths"], found["headers"]
    if delivery.properties.headers is not None:
        found["headers"] = headers_to_json(delivery.properties.headers, exact=True)
    text = _text(delivery.body, cut=False)
    if text is None:
        found["base64"] = base64.b64encode(delivery.body).decode()
    else:
        found["text"] = text
    return found


def to_json(delivery: Delivery, *, keys: Keyring | None = None, only: Collection[str] | None = None) -> bytes:
    """Write the document as one line of JSON, without the line's end.

    Args:
        delivery: stays as it is.
        keys: to decrypt with.
        only: these fields and no others.

    The body is put in as it was written, so 150.0 stays 150.0 and a number of 30 digits keeps them all. Characters that
    would move a terminal's cursor or turn its text around are escaped.
    """
    if only is not None and _OF_THE_BODY.isdisjoint(only):
        return _line(_head(delivery, only))
    found, raw = _all_but_body(delivery, keys, only)
    text = found.get("text")
    if text is not None and not _is_cut(delivery) and _parse(text) is not _NOT_JSON:
        spaced = any(space in raw for space in (b"\n", b"\r", b"\t"))
        found["body"] = msgspec.Raw(msgspec.json.format(raw, indent=-1) if spaced else raw)
    if only is not None:
        found = {name: value for name, value in found.items() if name in only}
    return _line(found)


def _line(found: dict[str, Any]) -> bytes:
    line = _encode(found)
    if line.isascii() and b"\x7f" not in line:
        return line
    # JSON has these characters in strings only, where an escape means the same.
    return _NOT_SHOWN.sub(lambda match: f"\\u{ord(match[0]):04x}", line.decode()).encode()


def delivery_from(document: dict[str, Any]) -> Delivery:
    """Rebuild the delivery that a document shows, with all that the document says of it.

    `body` and `deaths` are not read: they repeat `text` and the header `x-death`. A body that was `decoded` comes back
    as its text, no longer compressed or encrypted; a capture is what keeps the wire body.

    Raises:
        InvalidMessage: a key is missing or of another type (facts `field`, `expected`, `found`).

    """
    if not isinstance(document, dict):
        _refuse("document", "an object", document)
    body = _body_from(document)
    properties = _properties_from(document)
    if _take(document, "decoded", list, []):
        properties.content_encoding = None
        if properties.headers is not None:
            properties.headers = {n: v for n, v in properties.headers.items() if n != KEY_ID_HEADER} or None
    size = _take(document, "size", int, len(body))
    return Delivery(
        exchange=_take(document, "exchange", str),
        routing_key=_take(document, "routing_key", str),
        properties=properties,
        body=body,
        queue=_take(document, "queue", str, None),
        received_at=_seconds(_take(document, "received_at", str), "received_at"),
        via=_take(document, "via", str),
        redelivered=_take(document, "redelivered", bool, None),
        wire_size=size if size != len(body) and not document.get("decoded") else None,
    )


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as `2026-01-02T03:04:05.678901Z`: always with microseconds, so that text sorts as time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _all_but_body(
    delivery: Delivery, keys: Keyring | None, only: Collection[str] | None = None
) -> tuple[dict[str, Any], bytes]:
    """Make the document without its `body`; and the bytes that `text` or `base64` shows."""
    found = _head(delivery, only)
    encoding = delivery.properties.content_encoding
    steps = steps_of(encoding) if encoding is not None else []
    body = delivery.body
    text: str | None = None
    if not steps:
        text = _text(body, cut=_is_cut(delivery))
    elif _is_cut(delivery):
        found["undecoded"] = f"encoded ({','.join(steps)}), and only {len(body)} bytes of it were seen"
    else:
        try:
            body = decode_body(delivery, keys=keys)
        except CodecError as error:
            found["undecoded"] = str(error)
        else:
            found["decoded"] = steps
            text = _text(body, cut=False)
    if text is None:
        found["base64"] = base64.b64encode(body).decode()
    else:
        found["text"] = text
    return found, body


def _head(delivery: Delivery, only: Collection[str] | None = None) -> dict[str, Any]:
    makers = _HEAD if only is None else [(name, make) for name, make in _HEAD if name in only]
    return {name: value for name, make in makers if (value := make(delivery)) is not None}


def _properties_of(delivery: Delivery) -> dict[str, Any]:
    properties = delivery.properties
    return {name: value for name in _PROPERTIES if (value := getattr(properties, name)) is not None}


_HEAD: tuple[tuple[str, Callable[[Delivery], Any]], ...] = (
    ("queue", lambda delivery: delivery.queue),
    ("exchange", lambda delivery: delivery.exchange),
    ("routing_key", lambda delivery: delivery.routing_key),
    ("via", lambda delivery: delivery.via),
    ("received_at", lambda delivery: iso_time(delivery.received_at)),
    ("size", lambda delivery: len(delivery.body) if delivery.wire_size is None else delivery.wire_size),
    ("redelivered", lambda delivery: delivery.redelivered),
    ("properties", _properties_of),
    ("headers", lambda delivery: headers_to_json(delivery.properties.headers or {})),
    ("deaths", lambda delivery: [_death(death) for death in delivery.deaths]),
)
_OF_THE_BODY = frozenset({"text", "base64", "body", "decoded", "undecoded"})
FIELDS = (*(name for name, _ in _HEAD), *sorted(_OF_THE_BODY))
"""All that a document may have."""


def _is_cut(delivery: Delivery) -> bool:
    return delivery.wire_size is not None and delivery.wire_size != len(delivery.body)


def _text(body: bytes, *, cut: bool) -> str | None:
    try:
        if cut:  # a character cut in two at the end does not make the rest binary
            return codecs.getincrementaldecoder("utf-8")().decode(body)
        return body.decode()
    except UnicodeDecodeError:
        return None


_NOT_JSON = object()


def _parse(text: str) -> Any:
    """Parse strict JSON; _NOT_JSON also for what no Python value can hold (1e400, a thousand brackets)."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _NOT_JSON


def _death(death: Death) -> dict[str, Any]:
    found: dict[str, Any] = {"queue": death.queue}
    if death.exchange is not None:
        found["exchange"] = death.exchange
    if death.routing_keys:
        found["routing_keys"] = death.routing_keys
    found["reason"] = death.reason
    if death.count is not None:
        found["count"] = death.count
    if death.time is not None:
        found["time"] = _iso_moment(death.time)
    return found


def headers_to_json(headers: dict[str, Any], *, exact: bool = False) -> dict[str, Any]:
    """Give every value of a header table a form that JSON has; `headers_from_json` takes it back.

    Args:
        headers: The table.
        exact: Say the AMQP type of integers and floats that were received exactly: `{"$int8": 5}`.
    """
    return {
        (f"${name}" if name[:1] == "$" else name): value if type(value) in _PLAIN else _value_to_json(value, exact)
        for name, value in headers.items()
    }


def _value_to_json(value: Any, exact: bool) -> Any:
    if isinstance(value, TypedInt | TypedFloat | TypedBytes):
        if exact:
            return _typed_to_json(value)
        value = int(value) if isinstance(value, int) else value
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return headers_to_json(value, exact=exact)
    if isinstance(value, list | tuple):
        return [_value_to_json(item, exact) for item in value]
    return _rare_to_json(value)


def _typed_to_json(value: TypedInt | TypedFloat | TypedBytes) -> dict[str, Any]:
    if isinstance(value, TypedBytes):
        return {"$string": base64.b64encode(value).decode()}
    if isinstance(value, TypedFloat):
        return {"$float32": float(value) if math.isfinite(value) else repr(float(value))}
    return {_INT_NAMES[value.amqp_type]: int(value)}


def _rare_to_json(value: Any) -> Any:
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"$timestamp": _iso_moment(value)}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    raise TypeError(f"a header value of type {type(value).__name__} has no JSON form")


def headers_from_json(headers: dict[str, Any]) -> dict[str, Any]:
    """Take back what `headers_to_json` wrote. Raises InvalidMessage for a `$` name that is none of ours."""
    return {_plain_name(name): _value_from_json(value, name) for name, value in headers.items()}


def _plain_name(name: str) -> str:
    if name[:1] != "$":
        return name
    if name[:2] != "$$":
        _refuse(f"headers {name!r:.40}", "a name that begins with `$$`, as a `$` is written", name)
    return name[1:]


def _value_from_json(value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_value_from_json(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name, content), *_ = value.items()
        if name in _READERS:
            try:
                return _READERS[name](content)
            except (ValueError, TypeError, InvalidOperation, OverflowError):
                _refuse(f"headers {path!r:.80}", f"a value for {name}", content)
    return headers_from_json(value)


def _moment(content: Any) -> datetime:
    if isinstance(content, int):
        return datetime.fromtimestamp(content, UTC)
    moment = datetime.fromisoformat(content)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time_or_number(content: Any) -> datetime | TypedInt:
    try:
        return _moment(content)
    except (ValueError, OverflowError, OSError):
        if isinstance(content, int):
            return TypedInt(content, "T")
        raise


def _integer(kind: str) -> Callable[[Any], TypedInt]:
    def read(content: Any) -> TypedInt:
        if not isinstance(content, int) or isinstance(content, bool):
            raise TypeError("no integer")
        return TypedInt(content, kind)

    return read


_INT_NAMES = {
    "b": "$int8",
    "B": "$uint8",
    "s": "$int16",
    "u": "$uint16",
    "i": "$uint32",
    "l": "$int64",
    "L": "$uint64",
    "T": "$timestamp",
}
_READERS: dict[str, Any] = {
    **{name: _integer(kind) for kind, name in _INT_NAMES.items()},
    "$float32": lambda content: TypedFloat(content),
    "$string": lambda content: TypedBytes(base64.b64decode(content, validate=True)),
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$timestamp": _time_or_number,
    "$decimal": lambda content: Decimal(content),
    "$float": float,
}


def _iso_moment(moment: datetime) -> str:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _body_from(document: dict[str, Any]) -> bytes:
    if "text" in document:
        text: str = _take(document, "text", str)
        try:
            return text.encode()
        except UnicodeEncodeError:
            _refuse("text", "Unicode text", text)
    encoded: str = _take(document, "base64", str)
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        _refuse("base64", "base64", encoded)


def _properties_from(document: dict[str, Any]) -> Properties:
    try:
        properties = msgspec.convert(_take(document, "properties", dict, {}), Properties)
    except msgspec.ValidationError as error:
        raise InvalidMessage(
            f"properties: {error}", field="properties", expected="AMQP's basic properties", found=document["properties"]
        ) from None
    properties.headers = headers_from_json(_take(document, "headers", dict, {})) or None
    return properties


def _seconds(text: str, field: str) -> float:
    try:
        return _moment(text).timestamp()
    except ValueError:
        _refuse(field, "an ISO time", text)


_REQUIRED = object()


def _take(document: dict[str, Any], field: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = document.get(field, default)
    if value is _REQUIRED:
        _refuse(field, f"a {kind.__name__}", "nothing")
    if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        _refuse(field, f"a {kind.__name__}", value)
    return value


def _refuse(field: str, expected: str, found: Any) -> NoReturn:
    raise InvalidMessage(
        f"{field}: expected {expected}, found {found!r:.80}", field=field, expected=expected, found=found
    )
