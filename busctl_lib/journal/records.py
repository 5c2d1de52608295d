"""What the journal keeps: operations, messages about to be sent, and what became of them."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from busctl_lib.amqp import wire
from busctl_lib.broker_headers import AT_DELIVERY, AT_PUBLISH, ON_THE_WAY, RECEIVED_TIME
from busctl_lib.envelope import Delivery, Envelope, Properties

State = Literal["planned", "running", "interrupted", "done", "partial", "cancelled", "failed"]
Outcome = Literal["moved", "returned", "failed", "unknown", "skipped"]

_NOT_SENT = (*AT_DELIVERY, "CC")
"""What was written for one delivery; and more routing keys: moved with them, it would go to other queues as well."""
_NOT_SENT_RAW = tuple(bytes((len(name),)) + name.encode() for name in _NOT_SENT)
"""With the length that stands before a name."""
_NOT_ITS_OWN = frozenset(name.encode() for name in (*_NOT_SENT, *AT_PUBLISH, *ON_THE_WAY))
_RECEIVED_TIME = RECEIVED_TIME.encode()


class Operation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One change of the bus. Written as JSON it is the contract of every command that makes one."""

    id: str
    kind: str
    source: str
    target: str | None = None
    """None: each message has its own."""
    state: State = "planned"
    planned: int = 0
    moved: int = 0
    returned: int = 0
    """Left where they were: nothing took them."""
    failed: int = 0
    """Left where they were for another reason."""
    unknown: int = 0
    undecided: int = 0
    """Left where they were: the filter could not tell whether they are meant. They are none of those planned."""
    started_at: float | None = None
    ended_at: float | None = None
    vhost: str = "/"
    broker: str = ""
    who: str = ""
    note: str | None = None
    undoes: str | None = None
    undone_by: str | None = None
    trash: str | None = None
    """The capture that holds what was taken away."""
    plan: dict[str, Any] = {}


class Intent(msgspec.Struct, array_like=True):
    """One message about to be sent: where from, where to, and itself."""

    seq: int
    identity: bytes
    message_id: str | None
    exchange: str
    """As it was received."""
    routing_key: str
    to_exchange: str
    to_key: str
    properties: bytes | None = None
    """On the wire; None where the message stays in its queue until it is confirmed."""
    body: bytes | None = None


class OpenBatch(msgspec.Struct):
    """What was about to be sent when its process died."""

    number: int
    began_at: float
    exact: bool
    intents: list[Intent]


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one message: one line of the audit."""

    operation: str
    seq: int
    identity: str
    """In hex."""
    outcome: str
    exchange: str
    routing_key: str
    to_exchange: str
    to_routing_key: str
    at: float
    message_id: str | None = None
    reason: str | None = None


class Verdict(msgspec.Struct):
    """What became of an intent."""

    intent: Intent
    outcome: Outcome
    reason: str | None = None


def unpack(intent: Intent) -> Envelope:
    """The message of an intent that keeps it, as it was to be sent."""
    assert intent.properties is not None
    assert intent.body is not None
    properties = wire.decode_properties(b"\0" * 12 + intent.properties, exact=True)
    return Envelope(exchange=intent.to_exchange, routing_key=intent.to_key, properties=properties, body=intent.body)


def identity(envelope: Envelope) -> bytes:
    """Sixteen bytes that tell a message from others, the same each time it is received and wherever it is moved.

    It is what the publisher made: properties, headers and body, without what brokers write into a message on its way
    (`broker_headers`), whatever order they put its headers in, and without the property `user_id`, which a move may
    have to leave out. Two messages that are equal in this have one identity: which of them is which cannot matter.
    """
    kept = envelope.wire_properties if isinstance(envelope, Delivery) else None  # whose types decoding may have lost
    return identity_of(wire.encode_properties(envelope.properties) if kept is None else kept, envelope.body)


def identity_of(properties: bytes, body: bytes) -> bytes:
    """The identity of a message whose properties are encoded already."""
    own = hashlib.blake2b(_own(properties), digest_size=32).digest()
    return hashlib.blake2b(body, digest_size=16, key=own).digest()


def _own(properties: bytes) -> bytes:
    """Encoded properties as their publisher made them, headers sorted by name."""
    if wire.has_user_id(properties) or _RECEIVED_TIME in properties:
        parts = wire.split_properties(properties)
        parts.pop("user_id", None)
        received = wire.header_at(parts.get("headers"), _RECEIVED_TIME)
        if received is not None and parts.get("timestamp") == _seconds_of(received):
            del parts["timestamp"]  # the broker's as well: a publisher's own has another value, or had it overwritten
        properties = wire.join_properties(parts)
    return wire.sort_headers(properties, _NOT_ITS_OWN)


def _seconds_of(received: bytes) -> bytes:
    """The property `timestamp` that a broker writes along with the time in milliseconds, as AMQP writes it."""
    return (int.from_bytes(received[-8:], "big") // 1000).to_bytes(8, "big")


def steady_header(header: bytes) -> bytes:
    """`steady` for properties as they were on the wire: nothing but those headers is changed in them."""
    return wire.cut_headers(header, [raw[1:] for raw in _NOT_SENT_RAW if raw in header])


def steady(properties: Properties) -> Properties:
    """The properties as they are sent again: without what was written for one delivery, nor more keys to route by."""
    headers = properties.headers
    if not headers or not any(name in headers for name in _NOT_SENT):
        return properties
    left = {name: value for name, value in headers.items() if name not in _NOT_SENT}
    return msgspec.structs.replace(properties, headers=left or None)
