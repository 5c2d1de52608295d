"""What rabtap writes: a JSON object a message, in a stream or in folders, its body in it or beside it as `.dat`.

Empty text, 0 and the year 1 are what rabtap writes for an absent property.
Source: https://github.com/jandelgado/rabtap, "JSON message format".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.envelope import Delivery, Properties
from busctl_lib.errors import ConfigError, InvalidMessage

_TEXTS = {
    "content_type": "ContentType",
    "content_encoding": "ContentEncoding",
    "correlation_id": "CorrelationID",
    "reply_to": "ReplyTo",
    "expiration": "Expiration",
    "message_id": "MessageID",
    "type": "Type",
    "user_id": "UserID",
    "app_id": "AppID",
}
_NUMBERS = {"delivery_mode": "DeliveryMode", "priority": "Priority"}
_TRACE = "amq.rabbitmq.trace"


def read_folder(folder: Path) -> Iterator[Delivery]:
    """Yield the messages of a folder by the time they were received.

    Raises:
        ConfigError: there is none in it.
        InvalidMessage: a file is none of rabtap's.
    """
    paths = sorted(folder.glob("rabtap*.json"))
    if not paths:
        raise ConfigError(f"{folder} is a folder without rabtap's files (rabtap*.json)")
    yield from sorted((_read(path) for path in paths), key=lambda delivery: delivery.received_at)


def _read(path: Path) -> Delivery:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _refused(path.name, error) from None
    body = path.with_suffix(".dat")
    return message_of(found, body.read_bytes() if body.exists() else None, path.name)


def message_of(found: dict[str, Any], body: bytes | None, name: str) -> Delivery:
    """The message in an object of rabtap's.

    Args:
        found: The object.
        body: Where it stands beside it.
        name: For errors.

    Raises:
        InvalidMessage: it is none.
    """
    try:
        moment = found.get("Timestamp") or "0001"
        values: dict[str, Any] = {name: found.get(key) or None for name, key in (_TEXTS | _NUMBERS).items()}
        headers = found.get("Headers") or None
        if not moment.startswith("0001"):
            values["timestamp"] = int(datetime.fromisoformat(moment).timestamp())
        made = Delivery(
            exchange=found["Exchange"],
            routing_key=found["RoutingKey"],
            properties=msgspec.convert({**values, "headers": headers}, Properties),
            body=base64.b64decode(found.get("Body") or "", validate=True) if body is None else body,
            queue=None,
            received_at=datetime.fromisoformat(found["XRabtapReceivedTimestamp"]).timestamp(),
            via="rabtap",
            redelivered=bool(found.get("Redelivered")),
        )
    except (msgspec.MsgspecError, KeyError, ValueError, binascii.Error, AttributeError, TypeError) as error:
        raise _refused(name, error) from None
    if made.exchange == _TRACE:
        raise InvalidMessage(
            f"{name} was taken from the firehose by rabtap: it is a notification, not the message itself",
            field="Exchange",
            expected="the exchange of the message",
            found=_TRACE,
        )
    return made


def _refused(name: str, error: Exception) -> InvalidMessage:
    return InvalidMessage(f"{name} is none of rabtap's messages: {error!r:.120}", field="file", expected="", found=name)
