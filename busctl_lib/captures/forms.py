"""Messages as others write them into files: which form an object of JSON has, and what it says.

Read are documents, captures of ours among them, what the management API's `get` gives, and rabtap's messages. Of all
else is told what it is, so that nobody takes a file that was not read for one without messages.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from busctl_lib.captures import rabtap
from busctl_lib.captures.lines import delivery_in
from busctl_lib.codecs.charsets import read_text
from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import InvalidMessage

_NOT_TEXT = "Not UTF-8, base64 is: "
"""How the management API writes a header of bytes."""
LOST_TYPES = (
    "the management API does not keep AMQP's types: of headers, times are numbers and nothing is the text 'undefined'"
)
_KINDS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"operation", "request", "signature"}), "a plan of `busctl replay`, which `--plan` reads"),
    (frozenset({"queues", "exchanges", "bindings"}), "definitions, which `busctl definitions import` reads"),
    (frozenset({"properties", "headers"}), "properties of a message without the message"),
    (frozenset({"specversion", "type", "source"}), "a CloudEvent: a body without a route"),
)
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xd4\xc3\xb2\xa1", "recorded network packets"),
    (b"\x0a\x0d\x0d\x0a", "recorded network packets"),
    (b"SQLite format 3", "an SQLite file"),
    (b"\xfd7zXZ", "packed by xz: unpack it first"),
    (b"BZh", "packed by bzip2: unpack it first"),
)
TAR = "a tar archive, as rabbitio writes them: it keeps neither exchange nor properties of its messages"
_MARK_OF_TAR = slice(257, 262)


def message_of(value: Any, name: str = "") -> Delivery:
    """The message that an object of JSON is, in whichever form. Raises InvalidMessage: it is none, and what it is."""
    if isinstance(value, dict):
        if "payload" in value and "routing_key" in value:
            return _of_management(value)
        if "RoutingKey" in value and "Exchange" in value:
            return rabtap.message_of(value, None, name or "it")
        if "routing_key" in value or "sha256" in value:
            return delivery_in(value)
    raise _refused(f"there is no message in it, it is {named(value)}", value)


def named(value: Any) -> str:
    """Say what a JSON value is that is no message."""
    if isinstance(value, list):
        return "a JSON array"
    if not isinstance(value, dict):
        return f"JSON: {msgspec.json.encode(value)[:40].decode('utf-8', 'replace')}"
    kind = next((kind for keys, kind in _KINDS if keys <= value.keys()), None)
    if kind is not None:
        return kind
    keys = ", ".join(list(map(repr, value))[:6])
    return f"a JSON object with {f'the keys {keys:.120}' if value else 'no keys'}"


def kind_of_file(head: bytes) -> str:
    """Say what a file is that has no JSON in it, by its first bytes."""
    if head[_MARK_OF_TAR] == b"ustar":
        return TAR
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if kind is not None:
        return kind
    text, _ = read_text(head, cut=True) or ("\0", "")
    if "\0" in text:
        return "bytes of no form known here"
    return f"text that is no JSON, beginning with {text[:40]!r}"


def _of_management(value: dict[str, Any]) -> Delivery:
    """Source: RabbitMQ's HTTP API, /api/queues/VHOST/NAME/get."""
    try:
        properties = dict(value.get("properties") or {})  # which is [] where there are none
        headers = properties.pop("headers", None)
        body = _payload(value)
        made = Delivery(
            exchange=value["exchange"],
            routing_key=value["routing_key"],
            properties=msgspec.convert({**properties, "headers": _headers(headers)}, Properties),
            body=body,
            queue=None,
            received_at=0.0,
            via="get",
            redelivered=value.get("redelivered"),
        )
        msgspec.convert((made.exchange, made.routing_key), tuple[str, str])
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise _refused(f"it is no message of the management API: {error!r:.120}", value) from None
    size = value.get("payload_bytes")
    if isinstance(size, int) and size != len(body):
        raise _refused(f"the export has only {len(body):,} of the {size:,} bytes of a body", value)
    return made


def _payload(value: dict[str, Any]) -> bytes:
    payload = value["payload"]
    if value.get("payload_encoding") == "base64":
        return base64.b64decode(payload, validate=True)
    return bytes(payload.encode())


def _headers(value: Any) -> Any:
    """Take bytes back; other types are lost in the export."""
    if isinstance(value, dict):
        return {name: _headers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_headers(each) for each in value]
    if isinstance(value, str) and value.startswith(_NOT_TEXT):
        try:
            return base64.b64decode(value.removeprefix(_NOT_TEXT), validate=True)
        except binascii.Error:
            return value
    return value


def _refused(text: str, value: Any) -> InvalidMessage:
    return InvalidMessage(text, field="file", expected="messages", found=repr(value)[:80])
