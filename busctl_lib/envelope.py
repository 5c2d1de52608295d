"""What travels: Properties, Envelope, Delivery, Death, and what became of a publish. Types only, no I/O."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

import msgspec


class TypedInt(int):
    """An integer header value with the AMQP type it came as, where that is not the one we would write."""

    amqp_type: str
    """The type's letter: b B s u i l L, or T for a time that no clock shows."""

    def __new__(cls, value: int, amqp_type: str) -> TypedInt:
        """Make one."""
        made = super().__new__(cls, value)
        made.amqp_type = amqp_type
        return made


class TypedFloat(float):
    """A header value of 32 bits (AMQP's type f)."""


class TypedBytes(bytes):
    """A header value that came as a string (AMQP's type S) and is no Unicode text."""


class Properties(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The AMQP basic properties by AMQP's names; None is absent. Source: AMQP 0-9-1, section 4.2.6.1."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    """1 transient, 2 persistent."""
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    """Time to live in milliseconds, as AMQP wants it: a string."""
    message_id: str | None = None
    timestamp: int | None = None
    """Seconds since 1970."""
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


PROPERTY_NAMES: tuple[str, ...] = Properties.__struct_fields__
"""The names of the AMQP properties, headers among them, in the order of the protocol."""


class Envelope(msgspec.Struct, kw_only=True):
    """One message as the bus carries it: route, properties (headers among them) and the wire body."""

    exchange: str
    """"" is the default exchange."""
    routing_key: str
    properties: Properties
    body: bytes

    @property
    def headers(self) -> dict[str, Any]:
        """The headers; an empty dict when there are none."""
        return self.properties.headers or {}


class Delivery(Envelope, kw_only=True):
    """An Envelope plus the facts of one receipt."""

    queue: str | None
    """The queue it was received from or, by a tap, the queue it is a message of; None when not known."""
    received_at: float
    """Seconds since 1970 by this machine's clock."""
    via: str = "consume"
    """How it was seen: consume, copy, firehose, stream, hold, get."""
    redelivered: bool | None = None
    """None when the way it was seen cannot know."""
    delivery_tag: int = 0
    epoch: int = 0
    """Which incarnation of the channel the tag belongs to."""
    wire_properties: bytes | None = None
    """The properties as they were on the wire, where they came by it."""
    wire_size: int | None = None
    """Bytes of the original body when `body` is a cut of it."""

    @property
    def deaths(self) -> list[Death]:
        """The dead-letter history, newest first, decoded from `x-death`."""
        return deaths_of(self.headers)


class Death(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One entry of a message's dead-letter history. Source: https://www.rabbitmq.com/docs/dlx."""

    queue: str
    reason: str
    """rejected, expired, maxlen or delivery_limit."""
    exchange: str | None = None
    routing_keys: list[str] = []
    count: int | None = None
    time: datetime | None = None


def deaths_of(headers: dict[str, Any]) -> list[Death]:
    """Decode the `x-death` header; entries that are not the broker's shape are skipped."""
    raw = headers.get("x-death")
    deaths: list[Death] = []
    for entry in raw if isinstance(raw, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("queue"), str):
            continue
        keys = entry.get("routing-keys")
        time = entry.get("time")
        deaths.append(
            Death(
                queue=entry["queue"],
                reason=str(entry.get("reason", "")),
                exchange=entry["exchange"] if isinstance(entry.get("exchange"), str) else None,
                routing_keys=[str(key) for key in keys] if isinstance(keys, list) else [],
                count=int(entry["count"]) if isinstance(entry.get("count"), int) else None,
                time=time.replace(tzinfo=time.tzinfo or UTC) if isinstance(time, datetime) else None,
            )
        )
    return deaths


class Outcome(enum.Enum):
    """What became of one publish."""

    CONFIRMED = "confirmed"
    """The broker has it, as safely as its queues are."""
    RETURNED = "returned"
    """No queue took it."""
    NACKED = "nacked"
    """A queue refused it or failed."""
    REFUSED = "refused"
    """Not accepted as it is: by us before sending, or by the broker closing the channel over it."""
    NEVER_SENT = "never_sent"
    """It did not leave this process: sending it again cannot double it."""
    UNKNOWN = "unknown"
    """Sent, and the link died before the confirm."""
