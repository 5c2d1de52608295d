"""Frames we write and read ourselves, as bytes: publishes, settlements, deliveries, returns, confirms.

pika builds four objects a message; on the hot paths that costs more than the broker does. Everything else on the
wire stays pika's. Source: AMQP 0-9-1, sections 2.3.5 and 4.2.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Collection, Set
from typing import Any

import msgspec

from busctl_lib.amqp.tables import (
    Unencodable,
    decode_shared_table,
    decode_table,
    encode_short_string,
    encode_table,
    split_table,
)
from busctl_lib.envelope import Envelope, Properties

METHOD_ACK = 0x003C0050
METHOD_NACK = 0x003C0078
METHOD_DELIVER = 0x003C003C
METHOD_RETURN = 0x003C0032

_frame = struct.Struct(">BHI").pack
_header = struct.Struct(">BHIHHQ").pack
_ack = struct.Struct(">BHIIQBB").pack
_u16 = struct.Struct(">H").pack
_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q").pack
_tag = struct.Struct(">QB").unpack_from
_values_of = msgspec.structs.astuple  # in the order of _LAYOUT, which is the order on the wire
_END = b"\xce"
_NO_HEADERS = b"\0\0\0\0"
_OVERHEAD = 8  # frame header and end mark
_HEADER_OVERHEAD = _OVERHEAD + 12
_RESERVE = 4096  # what a header frame may not use of a large frame, so that a broker's own additions still fit

# flag bit, field; in wire order
_SHORT, _TABLE, _OCTET, _STAMP = range(4)
_LAYOUT = (
    (1 << 15, "content_type", _SHORT),
    (1 << 14, "content_encoding", _SHORT),
    (1 << 13, "headers", _TABLE),
    (1 << 12, "delivery_mode", _OCTET),
    (1 << 11, "priority", _OCTET),
    (1 << 10, "correlation_id", _SHORT),
    (1 << 9, "reply_to", _SHORT),
    (1 << 8, "expiration", _SHORT),
    (1 << 7, "message_id", _SHORT),
    (1 << 6, "timestamp", _STAMP),
    (1 << 5, "type", _SHORT),
    (1 << 4, "user_id", _SHORT),
    (1 << 3, "app_id", _SHORT),
    (1 << 2, "cluster_id", _SHORT),
)


def encode_properties(properties: Properties) -> bytes:
    """Flags and values. Raises Unencodable naming the property that AMQP cannot carry."""
    flags = 0
    parts: list[bytes] = [b""]
    for value, (bit, name, kind) in zip(_values_of(properties), _LAYOUT, strict=True):
        if value is None:
            continue
        flags |= bit
        if kind == _SHORT:
            parts.append(encode_short_string(value, name))
        elif kind == _TABLE:
            parts.append(encode_table(value))
        else:
            parts.append(_encode_number(name, value, kind))
    expiration = properties.expiration
    if expiration is not None and not (expiration.isascii() and expiration.isdigit()):
        raise Unencodable(
            f"expiration must be milliseconds in digits, found {expiration!r:.40}",
            field="expiration",
            hint="'60000' is a minute.",
        )
    parts[0] = _u16(flags)
    return b"".join(parts)


def _encode_number(name: str, value: Any, kind: int) -> bytes:
    top = 255 if kind == _OCTET else (1 << 64) - 1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
        raise Unencodable(f"{name} must be a whole number from 0 to {top}, found {value!r:.40}", field=name)
    return bytes((value,)) if kind == _OCTET else _u64(value)


def encode_publish(
    channel: int,
    envelope: Envelope,
    mandatory: bool,
    frame_max: int,
    header: bytes | None = None,
    *,
    moves: bool = False,
) -> bytes:
    """One message as its frames, joined. Raises Unencodable, on the caller's thread, for what AMQP cannot carry.

    Args:
        channel: the channel number the frames are for.
        envelope: route, properties, body.
        mandatory: whether the broker returns the message if no queue takes it.
        frame_max: negotiated frame size in bytes.
        header: the properties, where they are encoded already.
        moves: it came through a frame like this, and may fill one again.
    """
    method = _publish_method(channel, envelope.exchange, envelope.routing_key, mandatory)
    if header is None:
        header = encode_properties(envelope.properties)
    most = widest_moved(frame_max) if moves else frame_max - min(_RESERVE, frame_max // 4)
    if len(header) > most:
        raise Unencodable(
            f"the headers take {len(header)} bytes, this link carries {most}",
            field="headers",
            hint="move large values into the body",
        )
    body = envelope.body
    size = len(body)
    parts = [
        method,
        _header(2, channel, len(header) + 12, 60, 0, size),
        header,
        _END,
    ]
    room = frame_max - _OVERHEAD
    for start in range(0, size, room):
        piece = body if size <= room else body[start : start + room]
        parts += (_frame(3, channel, len(piece)), piece, _END)
    return b"".join(parts)


def widest_moved(frame_max: int) -> int:
    """How many bytes of properties fit into one frame: no message has more of them, and no two frames hold them."""
    return frame_max - _HEADER_OVERHEAD


@functools.lru_cache(maxsize=1024)
def _publish_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The `basic.publish` frame: the same for all messages of one route."""
    return encode_method(
        channel,
        b"\x00\x3c\x00\x28\x00\x00"
        + encode_short_string(exchange, "exchange")
        + encode_short_string(routing_key, "routing_key")
        + (b"\x01" if mandatory else b"\x00"),
    )


def encode_method(channel: int, payload: bytes) -> bytes:
    """A method frame."""
    return _frame(1, channel, len(payload)) + payload + _END


def encode_ack(channel: int, tag: int, multiple: bool) -> bytes:
    """`basic.ack`."""
    return _ack(1, channel, 13, METHOD_ACK, tag, multiple, 0xCE)


def encode_nack(channel: int, tag: int, requeue: bool) -> bytes:
    """`basic.nack` of one message."""
    return _ack(1, channel, 13, METHOD_NACK, tag, requeue << 1, 0xCE)


def encode_nack_all(channel: int) -> bytes:
    """`basic.nack` of every open delivery of the channel, back to the queue, in order."""
    return _ack(1, channel, 13, METHOD_NACK, 0, 3, 0xCE)


def encode_reject(channel: int, tag: int, requeue: bool) -> bytes:
    """`basic.reject`: below 4.3 the same as nack; from 4.3 on it counts as a failed delivery."""
    return _ack(1, channel, 13, 0x003C005A, tag, requeue, 0xCE)


def decode_properties(data: bytes, *, exact: bool = False, shared: bool = False) -> Properties:
    """The properties of a content header frame's payload (class, weight and size in front).

    Args:
        data: the payload.
        exact: as of decode_table.
        shared: exact, and quicker: header values may be those of other messages, and must not be changed.
    """
    flags = data[12] << 8 | data[13]
    properties = Properties()
    offset = 14
    if flags & 1:
        raise ValueError("more property flags than AMQP 0-9-1 defines")
    for bit, name, kind in _LAYOUT:
        if not flags & bit:
            continue
        if kind == _SHORT:
            end = offset + 1 + data[offset]
            setattr(properties, name, data[offset + 1 : end].decode("utf-8", "backslashreplace"))
            offset = end
        elif kind == _TABLE:
            if shared:
                properties.headers, offset = decode_shared_table(data, offset)
            else:
                properties.headers, offset = decode_table(data, offset, exact=exact)
        elif kind == _OCTET:
            setattr(properties, name, data[offset])
            offset += 1
        else:
            properties.timestamp = int.from_bytes(data[offset : offset + 8], "big")
            offset += 8
    return properties


def _headers_at(properties: bytes) -> int | None:
    """Where in encoded properties the headers begin; None where there are none."""
    first = properties[0]
    if not first & 0x20:
        return None
    start = 2
    if first & 0x80:  # content type and encoding come before the headers
        start += 1 + properties[start]
    if first & 0x40:
        start += 1 + properties[start]
    return start


def has_user_id(properties: bytes) -> bool:
    """Whether encoded properties name a user."""
    return bool(properties[1] & 0x10)


def cut_headers(properties: bytes, names: Collection[bytes]) -> bytes:
    """Encoded properties without some headers; all that stays is the same bytes, and no headers are no table."""
    start = _headers_at(properties)
    if start is None or (not names and properties[start : start + 4] != _NO_HEADERS):
        return properties
    entries, end = split_table(properties, start)
    return _with_headers(properties, start, end, [entry for name, entry in entries if name not in names])


def sort_headers(properties: bytes, without: Set[bytes]) -> bytes:
    """`cut_headers`, and what stays is in the order of the names."""
    start = _headers_at(properties)
    if start is None:
        return properties
    entries, end = split_table(properties, start)
    names = [name for name, _entry in entries]
    if names and without.isdisjoint(names) and names == sorted(names):
        return properties
    kept = sorted(each for each in entries if each[0] not in without)
    return _with_headers(properties, start, end, [entry for _name, entry in kept])


def _with_headers(properties: bytes, start: int, end: int, entries: list[bytes]) -> bytes:
    """Encoded properties with other headers than those from `start` to `end`; none are no table."""
    kept = b"".join(entries)
    if not kept:
        flags = properties[0] << 8 | properties[1]
        return _u16(flags & ~(1 << 13)) + properties[2:start] + properties[end:]
    return properties[:start] + _u32(len(kept)) + kept + properties[end:]


def split_properties(properties: bytes) -> dict[str, bytes]:
    """Encoded properties as the encoded value of each that is there, in wire order."""
    flags = properties[0] << 8 | properties[1]
    offset = 2
    parts: dict[str, bytes] = {}
    for bit, name, kind in _LAYOUT:
        if not flags & bit:
            continue
        end = offset + _size_of(properties, offset, kind)
        parts[name] = properties[offset:end]
        offset = end
    return parts


def _size_of(data: bytes, offset: int, kind: int) -> int:
    if kind == _SHORT:
        return 1 + data[offset]
    if kind == _TABLE:
        return 4 + int.from_bytes(data[offset : offset + 4], "big")
    return 1 if kind == _OCTET else 8


def join_properties(parts: dict[str, bytes]) -> bytes:
    """Undo `split_properties`."""
    flags = 0
    values = [b""]
    for bit, name, _kind in _LAYOUT:
        if name in parts:
            flags |= bit
            values.append(parts[name])
    values[0] = _u16(flags)
    return b"".join(values)


def header_at(table: bytes | None, name: bytes) -> bytes | None:
    """The whole entry of one header in an encoded table; None where it is not there."""
    entries = split_table(table, 0)[0] if table is not None else []
    return next((entry for known_as, entry in entries if known_as == name), None)


def decode_confirm(payload: bytes) -> tuple[int, bool]:
    """(tag, multiple) of a `basic.ack` or `basic.nack` payload."""
    tag, bits = _tag(payload, 4)
    return tag, bool(bits & 1)


def decode_deliver(payload: bytes) -> tuple[str, int, bool, str, str]:
    """(consumer tag, delivery tag, redelivered, exchange, routing key) of a `basic.deliver` payload."""
    end = 5 + payload[4]
    consumer = payload[5:end].decode("utf-8", "backslashreplace")
    tag, redelivered = _tag(payload, end)
    exchange, end = _short_at(payload, end + 9)
    key, _ = _short_at(payload, end)
    return consumer, tag, bool(redelivered), exchange, key


def decode_return(payload: bytes) -> tuple[int, str, str, str]:
    """(reply code, reply text, exchange, routing key) of a `basic.return` payload."""
    code = payload[4] << 8 | payload[5]
    text, end = _short_at(payload, 6)
    exchange, end = _short_at(payload, end)
    key, _ = _short_at(payload, end)
    return code, text, exchange, key


def _short_at(data: bytes, offset: int) -> tuple[str, int]:
    end = offset + 1 + data[offset]
    return data[offset + 1 : end].decode("utf-8", "backslashreplace"), end
