"""A message on one line: time, key, size, type, body. Every text is safe to show."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from busctl.views import formats
from busctl.views.formats import safe_text

if TYPE_CHECKING:
    from busctl_lib.envelope import Delivery

_TYPE_FIELDS = ("action", "type", "event")
"""Where bodies without a `type` property say what they are."""
_HEX_BYTES = 32


class MessageRow(NamedTuple):
    """The cells of one message."""

    time: str
    """Local, to the millisecond."""
    key: str
    """The routing key, after `EXCHANGE:` where it is not the default one."""
    size: str
    type: str
    """What the message calls itself; empty when it does not."""
    body: str
    """On one line; binary as hex."""


def row(delivery: Delivery, body_limit: int | None = None) -> MessageRow:
    """Lay one message out; the body is cut to `body_limit` characters where that is given."""
    size = len(delivery.body) if delivery.wire_size is None else delivery.wire_size
    return MessageRow(
        time=formats.clock(delivery.received_at),
        key=safe_text(f"{delivery.exchange}:{delivery.routing_key}" if delivery.exchange else delivery.routing_key),
        size=formats.size(size),
        type=message_type(delivery),
        body=one_line(delivery, body_limit),
    )


def message_type(delivery: Delivery) -> str:
    """Name the kind of message: its `type` property, else what its JSON body says of itself, else nothing."""
    if delivery.properties.type:
        return safe_text(delivery.properties.type)
    body = _json_object(delivery.body)
    found = next((body[name] for name in _TYPE_FIELDS if isinstance(body.get(name), str)), "")
    return safe_text(found)


def one_line(delivery: Delivery, limit: int | None = None) -> str:
    """Show a body on one line: JSON without its own line breaks, other text escaped, binary as hex."""
    raw = delivery.body
    if b"\n" in raw:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            raw = msgspec.json.format(raw, indent=-1)
    try:
        return safe_text(raw.decode(), limit)
    except UnicodeDecodeError:
        shown = raw[:_HEX_BYTES].hex(" ")
        return safe_text(f"<{shown}{' …' if len(raw) > _HEX_BYTES else ''}>", limit)


def _json_object(body: bytes) -> dict[str, Any]:
    if body[:1] != b"{":
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
