"""AMQP field tables (headers, arguments) <-> Python values, every type RabbitMQ knows.

pika's own codec refuses floats, cuts received ones to integers and fails on the I/O thread; this one is exact and
runs on the caller's thread. Source: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from busctl_lib.envelope import TypedBytes, TypedFloat, TypedInt
from busctl_lib.errors import PublishRefused

_length = struct.Struct(">I").unpack_from
_u8 = struct.Struct(">B").pack
_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q").pack
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
_OTHER_SIZES = {ord("T"): 8, ord("t"): 1, ord("V"): 0, ord("D"): 5}
_SHARED_BYTES = 512
_MAX_DEPTH = 100
_Encoder = Callable[[Any, int], bytes]
"""(value, depth)"""


class Unencodable(PublishRefused):
    """A value that AMQP cannot carry. Fact: `field`, the header's or argument's path."""


class TooDeep(bytes):
    """A table or array nested too deeply to be read, as its bytes: it can be moved on, and not written anew."""


class _CannotCarry(Exception):
    """Raised where a value is; its path is put together on the way up, so that it costs nothing where all is well."""

    def __init__(self, value: object, why: str) -> None:
        super().__init__(why)
        self.found = type(value).__name__
        self.path = ""

    def under(self, step: str) -> _CannotCarry:
        """The same, one level up."""
        self.path = step + self.path
        return self

    def told(self, root: str) -> Unencodable:
        """As the caller's error."""
        path = root + self.path
        return Unencodable(f"{path}: {self} (found {self.found})", field=path, hint="change or drop that value")


def encode_short_string(text: str, what: str) -> bytes:
    """Length byte and UTF-8; raises Unencodable above 255 bytes or for lone surrogates."""
    try:
        return _encode_short(text)
    except _CannotCarry as error:
        raise error.told(what) from None


def encode_table(table: Mapping[str, Any], path: str = "header") -> bytes:
    """Encode a table with its length. Raises Unencodable naming the path of the value that cannot travel."""
    try:
        return _encode_table(table, 0)
    except _CannotCarry as error:
        raise error.told(path) from None


def _encode_short(text: str) -> bytes:
    if not isinstance(text, str):
        raise _CannotCarry(text, "must be a string")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise _CannotCarry(text, "is not valid Unicode (a lone surrogate)") from None
    if len(raw) > 255:
        raise _CannotCarry(text, f"is {len(raw)} bytes long, AMQP allows 255")
    return _u8(len(raw)) + raw


_encode_name = functools.lru_cache(maxsize=2048, typed=True)(_encode_short)
"""Names of headers are few and come again with every message."""


def _encode_table(table: Mapping[str, Any], depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise _CannotCarry(table, f"is nested deeper than {_MAX_DEPTH} levels")
    parts: list[bytes] = []
    for key, value in table.items():
        try:
            parts.append(_encode_name(key))
        except _CannotCarry as error:
            raise error.under(f" name {key!r:.40}") from None
        except TypeError:  # it cannot be looked up, so it is no string
            raise _CannotCarry(key, "must be a string").under(f" name {key!r:.40}") from None
        try:
            parts.append((_ENCODERS.get(type(value)) or _encoder_of(value))(value, depth))
        except _CannotCarry as error:
            raise error.under(f" {key!r:.80}") from None
    body = b"".join(parts)
    return _u32(len(body)) + body


def _encode_list(value: Any, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise _CannotCarry(value, f"is nested deeper than {_MAX_DEPTH} levels")
    parts: list[bytes] = []
    for index, item in enumerate(value):
        try:
            parts.append((_ENCODERS.get(type(item)) or _encoder_of(item))(item, depth + 1))
        except _CannotCarry as error:
            raise error.under(f"[{index}]") from None
    body = b"".join(parts)
    return b"A" + _u32(len(body)) + body


def _encoder_of(value: Any) -> _Encoder:
    """The encoder of a type derived from one that AMQP knows."""
    for kind, encode in _ENCODERS.items():
        if isinstance(value, kind):
            return encode
    raise _CannotCarry(value, "is of a type that AMQP cannot carry")


def _encode_int(value: int, _depth: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"I" + _FIXED["I"].pack(value)
    if -(1 << 63) <= value < 1 << 63:
        return b"l" + _FIXED["l"].pack(value)
    raise _CannotCarry(value, "is outside 64 bits")


def _encode_str(value: str, _depth: int) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise _CannotCarry(value, "is not valid Unicode (a lone surrogate)") from None
    return b"S" + _u32(len(raw)) + raw


def _encode_float(value: float, _depth: int) -> bytes:
    if not math.isfinite(value):  # Erlang has no such floats: RabbitMQ answers by closing the connection
        raise _CannotCarry(value, f"is {value}, which RabbitMQ cannot read")
    return b"d" + _FIXED["d"].pack(value)


def _encode_decimal(value: Decimal, _depth: int) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise _CannotCarry(value, "is not a finite decimal")
    number = int("".join(map(str, digits)) or "0") * (10**exponent if 0 < exponent < 12 else 1)
    scale = max(0, -exponent)
    number = -number if sign else number
    if scale > 255 or exponent >= 12 or not -(1 << 31) <= number < 1 << 31:
        raise _CannotCarry(value, "does not fit AMQP's decimal (32 bits, scale to 255)")
    return b"D" + _u8(scale) + _FIXED["I"].pack(number)


def _encode_time(value: datetime, _depth: int) -> bytes:
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    if seconds < 0:
        raise _CannotCarry(value, "lies before 1970")
    return b"T" + _u64(seconds)


def _encode_float32(value: float, _depth: int) -> bytes:
    try:
        packed = _FIXED["f"].pack(value)
    except OverflowError:
        raise _CannotCarry(value, f"is {value:g}, which does not fit 32 bits") from None
    if not math.isfinite(value):
        raise _CannotCarry(value, f"is {value:g}, which RabbitMQ cannot read")
    return b"f" + packed


def _refuse_too_deep(value: TooDeep, _depth: int) -> bytes:
    raise _CannotCarry(value, f"is nested deeper than {_MAX_DEPTH} levels")


def _encode_typed(value: TypedInt, _depth: int) -> bytes:
    kind = value.amqp_type
    try:
        return kind.encode() + (_u64(value) if kind == "T" else _FIXED[kind].pack(value))
    except (struct.error, KeyError):
        raise _CannotCarry(value, f"does not fit AMQP's type {kind!r}") from None


_ENCODERS: dict[type, _Encoder] = {
    TypedInt: _encode_typed,
    TypedFloat: _encode_float32,
    TooDeep: _refuse_too_deep,
    TypedBytes: lambda value, _depth: b"S" + _u32(len(value)) + value,
    bool: lambda value, _depth: b"t\x01" if value else b"t\x00",
    str: _encode_str,
    int: _encode_int,
    float: _encode_float,
    type(None): lambda _value, _depth: b"V",
    bytes: lambda value, _depth: b"x" + _u32(len(value)) + value,
    bytearray: lambda value, _depth: b"x" + _u32(len(value)) + bytes(value),
    dict: lambda value, depth: b"F" + _encode_table(value, depth + 1),
    list: _encode_list,
    tuple: _encode_list,
    datetime: _encode_time,
    Decimal: _encode_decimal,
}


def decode_table(data: bytes, offset: int, *, exact: bool = False, depth: int = 0) -> tuple[dict[str, Any], int]:
    """Decode the table at `offset`; returns it and the offset behind it.

    Args:
        data: What holds the table.
        offset: Where it begins.
        exact: Keep the AMQP type of values that would be written as another one (TypedInt, TypedFloat, TypedBytes).
        depth: How many tables and arrays it is in.
    """
    end = offset + 4 + _length(data, offset)[0]
    offset += 4
    table: dict[str, Any] = {}
    while offset < end:
        stop = offset + 1 + data[offset]
        key = _decode_name(data[offset + 1 : stop])
        if data[stop] == 0x53:  # most headers are long strings
            offset = stop + 5 + _length(data, stop + 1)[0]
            raw = data[stop + 5 : offset]
            try:
                table[key] = raw.decode()
            except UnicodeDecodeError:
                table[key] = TypedBytes(raw) if exact else raw
        else:
            table[key], offset = _decode_value(data, stop, exact, depth)
    return table, end


@functools.lru_cache(maxsize=2048)
def _decode_name(raw: bytes) -> str:
    """Names of headers are few and come again with every message."""
    return raw.decode("utf-8", "backslashreplace")


def decode_shared_table(data: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """`decode_table(exact=True)` for messages whose headers come again: values are shared, and must not be changed."""
    entries, end = split_table(data, offset)
    return dict([_decode_entry(entry) if len(entry) <= _SHARED_BYTES else _entry(entry) for _, entry in entries]), end


def _entry(data: bytes) -> tuple[str, Any]:
    stop = 1 + data[0]
    return _decode_name(data[1:stop]), _decode_value(data, stop, True, 0)[0]


_decode_entry = functools.lru_cache(maxsize=4096)(_entry)


def split_table(data: bytes, offset: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """The names and whole entries of the table at `offset`, as bytes; and the offset behind it."""
    end = offset + 4 + _length(data, offset)[0]
    offset += 4
    entries: list[tuple[bytes, bytes]] = []
    while offset < end:
        value = offset + 1 + data[offset]
        behind = _behind(data, value)
        entries.append((data[offset + 1 : value], data[offset:behind]))
        offset = behind
    return entries, end


def _behind(data: bytes, offset: int) -> int:
    """The offset behind the value at `offset`."""
    kind = data[offset]
    if kind in b"SxFA":
        return offset + 5 + int(_length(data, offset + 1)[0])
    fixed = _FIXED_BY_BYTE.get(kind)
    size = fixed[1] if fixed is not None else _OTHER_SIZES.get(kind)
    if size is None:
        raise ValueError(f"unknown field type {chr(kind)!r} in an AMQP table")
    return offset + 1 + size


def _decode_value(data: bytes, offset: int, exact: bool, depth: int) -> tuple[Any, int]:
    kind = data[offset]
    offset += 1
    if kind == 0x53 or kind == 0x78:  # S: long string, x: bytes
        end = offset + 4 + _length(data, offset)[0]
        raw = data[offset + 4 : end]
        return (_text_or_bytes(raw, exact) if kind == 0x53 else raw), end
    fixed = _FIXED_BY_BYTE.get(kind)
    if fixed is not None:
        unpack, size = fixed
        value = unpack(data, offset)[0]
        return (_typed(value, kind) if exact else value), offset + size
    if kind == 0x46 or kind == 0x41:  # F: table, A: array
        return _decode_nested(kind, data, offset, exact, depth + 1)
    return _decode_rare(kind, data, offset, exact)


def _typed(value: Any, kind: int) -> Any:
    """Keep what `encode_table` would not choose by itself."""
    if kind in b"Id" or (kind == 0x6C and not -(1 << 31) <= value < 1 << 31):
        return value
    return TypedFloat(value) if kind == 0x66 else TypedInt(value, chr(kind))


def _decode_nested(kind: int, data: bytes, offset: int, exact: bool, depth: int) -> tuple[Any, int]:
    end = offset + 4 + _length(data, offset)[0]
    if depth > _MAX_DEPTH:
        return TooDeep(data[offset:end]), end
    if kind == 0x46:
        return decode_table(data, offset, exact=exact, depth=depth)
    offset += 4
    items = []
    while offset < end:
        item, offset = _decode_value(data, offset, exact, depth)
        items.append(item)
    return items, end


def _decode_rare(kind: int, data: bytes, offset: int, exact: bool) -> tuple[Any, int]:
    match chr(kind):
        case "T":
            return _moment(int.from_bytes(data[offset : offset + 8], "big"), exact), offset + 8
        case "t":
            return data[offset] != 0, offset + 1
        case "V":
            return None, offset
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
