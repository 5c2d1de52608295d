"""AMQP field tables (headers, arguments) <-> Python values, every type RabbitMQ knows.

pika's own codec refuses floats, cuts received ones to integers and fails on the I/O thread; this one is exact and
runs on the caller's thread. Source: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from busctl_lib.envelope import TypedBytes, TypedFloat, TypedInt
from busctl_lib.errors import PublishRefused

_u8 = struct.Struct(">B").pack
_u32 = struct.Struct(">I").pack
_FIXED = {
    tag: struct.Struct(">" + code)
    for tag, code in {
        "b": "b",
        "B": "B",
        "s": "h",
        "u": "H",
        "I": "i",
        "i": "I",
        "l": "q",
        "L": "q",
        "f": "f",
        "d": "d",
    }.items()
}
_FIXED_BY_BYTE = {ord(tag): (layout.unpack_from, layout.size) for tag, layout in _FIXED.items()}
_MAX_DEPTH = 100


class Unencodable(PublishRefused):
    """A value that AMQP cannot carry. Fact: `field`, the header's or argument's path."""


def _refuse(path: str, value: object, why: str) -> Unencodable:
    return Unencodable(f"{path}: {why} (found {type(value).__name__})", field=path, hint="Change or drop that value.")


def encode_short_string(text: str, what: str) -> bytes:
    """Length byte and UTF-8; raises Unencodable above 255 bytes or for lone surrogates."""
    if not isinstance(text, str):
        raise _refuse(what, text, "must be a string")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise _refuse(what, text, "is not valid Unicode (a lone surrogate)") from None
    if len(raw) > 255:
        raise _refuse(what, text, f"is {len(raw)} bytes long, AMQP allows 255")
    return _u8(len(raw)) + raw


def encode_table(table: Mapping[str, Any], path: str = "header") -> bytes:
    """Encode a table with its length. Raises Unencodable naming the path of the value that cannot travel."""
    return _encode_table(table, path, 0)


def _encode_table(table: Mapping[str, Any], path: str, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise _refuse(path, table, f"is nested deeper than {_MAX_DEPTH} levels")
    parts: list[bytes] = []
    for key, value in table.items():
        parts.append(encode_short_string(key, f"{path} name {key!r:.40}"))
        parts.append(_encode_value(value, f"{path} {key!r:.80}", depth))
    body = b"".join(parts)
    return _u32(len(body)) + body


def _encode_value(value: Any, path: str, depth: int) -> bytes:
    encode = _ENCODERS.get(type(value))
    if encode is None:
        encode = next((fn for kind, fn in _ENCODERS.items() if isinstance(value, kind)), None)
    if encode is None:
        raise _refuse(path, value, "is of a type that AMQP cannot carry")
    encoded: bytes = encode(value, path, depth)
    return encoded


def _encode_int(value: int, path: str, _depth: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"I" + _FIXED["I"].pack(value)
    if -(1 << 63) <= value < 1 << 63:
        return b"l" + _FIXED["l"].pack(value)
    raise _refuse(path, value, "is outside 64 bits")


def _encode_str(value: str, path: str, _depth: int) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise _refuse(path, value, "is not valid Unicode (a lone surrogate)") from None
    return b"S" + _u32(len(raw)) + raw


def _encode_float(value: float, path: str, _depth: int) -> bytes:
    if not math.isfinite(value):  # Erlang has no such floats: RabbitMQ answers by closing the connection
        raise _refuse(path, value, f"is {value}, which RabbitMQ cannot read")
    return b"d" + _FIXED["d"].pack(value)


def _encode_decimal(value: Decimal, path: str, _depth: int) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise _refuse(path, value, "is not a finite decimal")
    number = int("".join(map(str, digits)) or "0") * (10**exponent if 0 < exponent < 12 else 1)
    scale = max(0, -exponent)
    number = -number if sign else number
    if scale > 255 or exponent >= 12 or not -(1 << 31) <= number < 1 << 31:
        raise _refuse(path, value, "does not fit AMQP's decimal (32 bits, scale to 255)")
    return b"D" + _u8(scale) + _FIXED["I"].pack(number)


def _encode_time(value: datetime, path: str, _depth: int) -> bytes:
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    if seconds < 0:
        raise _refuse(path, value, "lies before 1970")
    return b"T" + struct.pack(">Q", seconds)


def _encode_list(value: Any, path: str, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise _refuse(path, value, f"is nested deeper than {_MAX_DEPTH} levels")
    body = b"".join(_encode_value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
    return b"A" + _u32(len(body)) + body


def _encode_typed(value: TypedInt, path: str, _depth: int) -> bytes:
    kind = value.amqp_type
    try:
        return kind.encode() + (struct.pack(">Q", value) if kind == "T" else _FIXED[kind].pack(value))
    except (struct.error, KeyError):
        raise _refuse(path, value, f"does not fit AMQP's type {kind!r}") from None


def _encode_string_bytes(value: TypedBytes, _path: str, _depth: int) -> bytes:
    return b"S" + _u32(len(value)) + value


_ENCODERS: dict[type, Any] = {
    TypedInt: _encode_typed,
    TypedFloat: lambda value, _path, _depth: b"f" + _FIXED["f"].pack(value),
    TypedBytes: _encode_string_bytes,
    bool: lambda value, _path, _depth: b"t\x01" if value else b"t\x00",
    str: _encode_str,
    int: _encode_int,
    float: _encode_float,
    type(None): lambda _value, _path, _depth: b"V",
    bytes: lambda value, _path, _depth: b"x" + _u32(len(value)) + value,
    bytearray: lambda value, _path, _depth: b"x" + _u32(len(value)) + bytes(value),
    dict: lambda value, path, depth: b"F" + _encode_table(value, path, depth + 1),
    list: _encode_list,
    tuple: _encode_list,
    datetime: _encode_time,
    Decimal: _encode_decimal,
}


def decode_table(data: bytes, offset: int, *, exact: bool = False) -> tuple[dict[str, Any], int]:
    """Decode the table at `offset`; returns it and the offset behind it.

    Args:
        data: What holds the table.
        offset: Where it begins.
        exact: Keep the AMQP type of values that would be written as another one (TypedInt, TypedFloat, TypedBytes).
    """
    end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
    offset += 4
    table: dict[str, Any] = {}
    while offset < end:
        length = data[offset]
        key = data[offset + 1 : offset + 1 + length].decode("utf-8", "backslashreplace")
        table[key], offset = _decode_value(data, offset + 1 + length, exact)
    return table, end


def _decode_value(data: bytes, offset: int, exact: bool) -> tuple[Any, int]:
    kind = data[offset]
    offset += 1
    fixed = _FIXED_BY_BYTE.get(kind)
    if fixed is not None:
        unpack, size = fixed
        value = unpack(data, offset)[0]
        return (_typed(value, chr(kind)) if exact else value), offset + size
    if kind in (0x53, 0x78):  # S: long string, x: bytes
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
        raw = data[offset + 4 : end]
        return (_text_or_bytes(raw, exact) if kind == 0x53 else raw), end
    return _decode_rare(kind, data, offset, exact)


def _typed(value: Any, kind: str) -> Any:
    """Keep what `encode_table` would not choose by itself."""
    if kind in "Id" or (kind == "l" and not -(1 << 31) <= value < 1 << 31):
        return value
    return TypedFloat(value) if kind == "f" else TypedInt(value, kind)


def _decode_rare(kind: int, data: bytes, offset: int, exact: bool) -> tuple[Any, int]:
    match chr(kind):
        case "t":
            return data[offset] != 0, offset + 1
        case "V":
            return None, offset
        case "F":
            return decode_table(data, offset, exact=exact)
        case "A":
            end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
            offset += 4
            items = []
            while offset < end:
                item, offset = _decode_value(data, offset, exact)
                items.append(item)
            return items, end
        case "T":
            return _moment(int.from_bytes(data[offset : offset + 8], "big"), exact), offset + 8
        case "D":
            number = int.from_bytes(data[offset + 1 : offset + 5], "big", signed=True)
            return Decimal(number).scaleb(-data[offset]), offset + 5
        case other:
            raise ValueError(f"unknown field type {other!r} in an AMQP table")


def _moment(seconds: int, exact: bool) -> datetime | int:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        # Milliseconds written into a seconds field: the number is the truth we have.
        return TypedInt(seconds, "T") if exact else seconds


def _text_or_bytes(raw: bytes, exact: bool) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return TypedBytes(raw) if exact else raw
