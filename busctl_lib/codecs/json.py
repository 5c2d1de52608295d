"""Message <-> JSON body."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from busctl_lib.errors import CodecError, InvalidMessage

JSON = "application/json"
"""The content type of a JSON body."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def encode_json(message: Any) -> bytes:
    """A message as JSON.

    Raises:
        InvalidMessage: a NaN or infinity, which JSON does not have (and msgspec would turn into null), with its field;
            or text that is not valid Unicode.
        CodecError: a value JSON cannot carry.
    """
    try:
        body = _encode(message)
        bad = _not_finite(message, "") if b"null" in body else None  # null is what msgspec makes of a NaN
    except UnicodeEncodeError as error:
        found = ascii(error.object[:40])
        raise InvalidMessage(
            f"the message cannot be written as JSON: the text {found} is not valid UTF-8",
            field="",
            expected="text",
            found=found,
        ) from None
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise CodecError(f"the message cannot be written as JSON: {error}") from None
    if bad is not None:
        field, value = bad
        raise InvalidMessage(
            f"field {field!r} is {value}, which JSON cannot carry",
            field=field,
            expected="a finite number",
            found=str(value),
        )
    return body


def decode_json(body: bytes) -> Any:
    """The JSON value of a body. Raises CodecError saying where it is broken."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"the body is not JSON: {error}") from None


def _not_finite(value: Any, path: str) -> tuple[str, float] | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else (path or "message", value)
    if isinstance(value, dict):
        items = ((f"{path}.{key}" if path else str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        items = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    else:
        return None
    return next((bad for where, item in items if (bad := _not_finite(item, where)) is not None), None)
