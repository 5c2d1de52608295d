"""Delivery <-> document: the JSON form of a message that `-o jsonl` prints, jq reads and a person can edit.

Keys always come in one order and absent is absent: what is not known, or not there, has no key. Header values that JSON
does not have are written as in `header_json`.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from busctl_lib.codecs import NOT_JSON, Body, Keyring, charset_written, without_steps, write_text
from busctl_lib.envelope import PROPERTY_NAMES, Death, Delivery, Properties
from busctl_lib.errors import InvalidMessage
from busctl_lib.header_json import headers_from_json as headers_from_json
from busctl_lib.header_json import headers_to_json as headers_to_json
from busctl_lib.header_json import iso_moment, moment_from, refuse
from busctl_lib.questions import Question

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
    body = body_of(delivery, keys)
    found = _head(delivery)
    _show(found, body)
    if body.value is not NOT_JSON:
        found["body"] = body.value
    return found


def body_of(delivery: Delivery, keys: Keyring | None = None) -> Body:
    """Read the body of a delivery, of which it may have the beginning only."""
    return Body(delivery, keys=keys, size=delivery.wire_size)


def capture_document(delivery: Delivery) -> dict[str, Any]:
    """Build the document that a capture keeps: every header type exact, absent headers absent, nothing twice."""
    found = _head(delivery)
    del found["deaths"], found["headers"]
    if delivery.properties.headers is not None:
        found["headers"] = headers_to_json(delivery.properties.headers, exact=True)
    try:
        found["text"] = delivery.body.decode()  # whatever character set it is in: UTF-8 gives back the same bytes
    except UnicodeDecodeError:
        found["base64"] = base64.b64encode(delivery.body).decode()
    return found


def to_json(delivery: Delivery, *, keys: Keyring | None = None, only: frozenset[str] | None = None) -> bytes:
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
    return _written(delivery, body_of(delivery, keys), only)


def question(delivery: Delivery, *, keys: Keyring | None = None, only: frozenset[str] | None = None) -> Question:
    """Put a message to an expression: its document as `to_json` writes it, and what of it could not be read."""
    if only is not None and _OF_THE_BODY.isdisjoint(only):
        return Question(_line(_head(delivery, only)))
    body = body_of(delivery, keys)
    if body.value is not NOT_JSON:
        return Question(_written(delivery, body, only))
    return Question(_written(delivery, body, only), body.hidden, body.why or "")


def _written(delivery: Delivery, body: Body, only: frozenset[str] | None) -> bytes:
    found: dict[str, Any] = {}
    if only is None or only != _BODY:
        found = _head(delivery, only)
        _show(found, body)
    if body.value is not NOT_JSON:
        raw = body.utf8
        spaced = b"\n" in raw or b"\r" in raw or b"\t" in raw
        found["body"] = msgspec.Raw(msgspec.json.format(raw, indent=-1) if spaced else raw)
    if only is not None and len(found) > 1:
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
        refuse("document", "an object", document)
    properties = _properties_from(document)
    undone = _take(document, "decoded", list, [])
    charset = charset_written(undone)
    body = _body_from(document, charset)
    if len(undone) > (charset is not None):
        properties = without_steps(properties)
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


def _show(found: dict[str, Any], body: Body) -> None:
    """Put in what a document says of a body, without the body itself."""
    if body.undecoded is not None:
        found["undecoded"] = body.undecoded
    elif body.decoded:
        found["decoded"] = body.decoded
    if body.text is None:
        found["base64"] = base64.b64encode(body.data).decode()
    else:
        found["text"] = body.text
    if body.undecoded is None and body.why is not None and body.is_told:
        found["unread"] = body.why


def _head(delivery: Delivery, only: frozenset[str] | None = None) -> dict[str, Any]:
    makers = _HEAD if only is None else _makers(only)
    return {name: value for name, make in makers if (value := make(delivery)) is not None}


@functools.lru_cache(maxsize=64)
def _makers(only: frozenset[str]) -> tuple[tuple[str, Callable[[Delivery], Any]], ...]:
    return tuple((name, make) for name, make in _HEAD if name in only)


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
_BODY = frozenset({"body"})
_OF_THE_BODY = frozenset({"text", "base64", "body", "decoded", "undecoded", "unread"})
FIELDS = (*(name for name, _ in _HEAD), *sorted(_OF_THE_BODY))
"""All that a document may have."""


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
        found["time"] = iso_moment(death.time)
    return found


def _body_from(document: dict[str, Any], charset: str | None) -> bytes:
    if "text" in document:
        text: str = _take(document, "text", str)
        try:
            return text.encode() if charset is None else write_text(text, charset)
        except UnicodeEncodeError:
            refuse("text", "Unicode text" if charset is None else f"text that {charset} can write", text)
    encoded: str = _take(document, "base64", str)
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        refuse("base64", "base64", encoded)


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
        return moment_from(text).timestamp()
    except ValueError:
        refuse(field, "an ISO time", text)


_REQUIRED = object()


def _take(document: dict[str, Any], field: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = document.get(field, default)
    if value is _REQUIRED:
        refuse(field, f"a {kind.__name__}", "nothing")
    if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        refuse(field, f"a {kind.__name__}", value)
    return value
