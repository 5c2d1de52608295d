"""A message on one line: time, key, size, type, body. Every text is safe to show."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from busctl.views import formats
from busctl.views.formats import safe_text

if TYPE_CHECKING:
    from busctl_lib.codecs import Body, Keyring
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
    """On one line; bytes by the name of their format, or as hex."""


def row(delivery: Delivery, body_limit: int | None = None, keys: Keyring | None = None) -> MessageRow:
    """Lay one message out; the body decrypted with `keys`, and cut to `body_limit` characters where that is given."""
    from busctl_lib.documents import body_of

    size = len(delivery.body) if delivery.wire_size is None else delivery.wire_size
    body = body_of(delivery, keys)
    return MessageRow(
        time=formats.clock(delivery.received_at),
        key=safe_text(f"{delivery.exchange}:{delivery.routing_key}" if delivery.exchange else delivery.routing_key),
        size=formats.size(size),
        type=_type_of(delivery, body),
        body=_line_of(body, body_limit),
    )


def one_line(delivery: Delivery, limit: int | None = None) -> str:
    """Show a body on one line: JSON without its own line breaks, other text escaped, bytes named or as hex."""
    from busctl_lib.documents import body_of

    return _line_of(body_of(delivery), limit)


def unread_as(body: Body) -> str:
    """Say what a body is that has no text: why it could not be read, or the name of its format; empty where unknown."""
    return body.undecoded or (body.why or "" if body.is_known else "")


def _type_of(delivery: Delivery, body: Body) -> str:
    """Name the kind of message: its `type` property, else what its JSON body says of itself, else nothing."""
    if delivery.properties.type:
        return safe_text(delivery.properties.type)
    value = body.value if (body.text or "").lstrip()[:1] == "{" else None
    if not isinstance(value, dict):
        return ""
    return safe_text(next((value[name] for name in _TYPE_FIELDS if isinstance(value.get(name), str)), ""))


def _line_of(body: Body, limit: int | None) -> str:
    text = body.text
    if text is None:
        shown = f"{body.data[:_HEX_BYTES].hex(' ')}{' …' if len(body.data) > _HEX_BYTES else ''}"
        said = unread_as(body)
        if said:
            shown = said if body.undecoded is not None else f"{said}: {shown}"
        return safe_text(f"<{shown}>", limit)
    if "\n" in text:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeError):
            text = msgspec.json.format(text, indent=-1)
    return safe_text(text, limit)
