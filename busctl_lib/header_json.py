"""Header tables <-> JSON: every value of AMQP's types has a form, and comes back from it.

Values that JSON does not have are objects with one `$` key (`{"$bytes": base64}`, `{"$timestamp": ISO}`,
`{"$decimal": "1.23"}`, `{"$float": "nan"}`), and so are numbers where the exact AMQP type matters (`{"$int8": 5}`); a
header whose own name begins with `$` gets one more `$`, so neither can be taken for the other.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from busctl_lib.envelope import TypedBytes, TypedFloat, TypedInt
from busctl_lib.errors import InvalidMessage

_PLAIN = (str, int, bool, type(None))


def headers_to_json(headers: dict[str, Any], *, exact: bool = False) -> dict[str, Any]:
    """Give every value of a header table a form that JSON has; `headers_from_json` takes it back.

    Args:
        headers: The table.
        exact: Say the AMQP type of integers and floats that were received exactly: `{"$int8": 5}`.
    """
    return {
        (f"${name}" if name[:1] == "$" else name): value if type(value) in _PLAIN else _value_to_json(value, exact)
        for name, value in headers.items()
    }


def _value_to_json(value: Any, exact: bool) -> Any:
    if isinstance(value, TypedInt | TypedFloat | TypedBytes):
        if exact:
            return _typed_to_json(value)
        value = int(value) if isinstance(value, int) else value
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return headers_to_json(value, exact=exact)
    if isinstance(value, list | tuple):
        return [_value_to_json(item, exact) for item in value]
    return _rare_to_json(value)


def _typed_to_json(value: TypedInt | TypedFloat | TypedBytes) -> dict[str, Any]:
    if isinstance(value, TypedBytes):
        return {"$string": base64.b64encode(value).decode()}
    if isinstance(value, TypedFloat):
        return {"$float32": float(value) if math.isfinite(value) else repr(float(value))}
    return {_INT_NAMES[value.amqp_type]: int(value)}


def _rare_to_json(value: Any) -> Any:
    if isinstance(value, float):
        value = float(value)
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"$timestamp": iso_moment(value)}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    raise TypeError(f"a header value of type {type(value).__name__} has no JSON form")


def headers_from_json(headers: dict[str, Any]) -> dict[str, Any]:
    """Take back what `headers_to_json` wrote. Raises InvalidMessage for a `$` name that is none of ours."""
    return {_plain_name(name): _value_from_json(value, name) for name, value in headers.items()}


def _plain_name(name: str) -> str:
    if name[:1] != "$":
        return name
    if name[:2] != "$$":
        refuse(f"headers {name!r:.40}", "a name that begins with `$$`, as a `$` is written", name)
    return name[1:]


def _value_from_json(value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_value_from_json(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name, content), *_ = value.items()
        if name in _READERS:
            try:
                return _READERS[name](content)
            except (ValueError, TypeError, InvalidOperation, OverflowError):
                refuse(f"headers {path!r:.80}", f"a value for {name}", content)
    return headers_from_json(value)


def moment_from(content: Any) -> datetime:
    """A time from ISO text, or seconds since 1970. Raises ValueError, OverflowError, OSError."""
    if isinstance(content, int):
        return datetime.fromtimestamp(content, UTC)
    moment = datetime.fromisoformat(content)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time_or_number(content: Any) -> datetime | TypedInt:
    try:
        return moment_from(content)
    except (ValueError, OverflowError, OSError):
        if isinstance(content, int):
            return TypedInt(content, "T")
        raise


def _integer(kind: str) -> Callable[[Any], TypedInt]:
    def read(content: Any) -> TypedInt:
        if not isinstance(content, int) or isinstance(content, bool):
            raise TypeError("no integer")
        return TypedInt(content, kind)

    return read


_INT_NAMES = {
    "b": "$int8",
    "B": "$uint8",
    "s": "$int16",
    "u": "$uint16",
    "i": "$uint32",
    "l": "$int64",
    "L": "$uint64",
    "T": "$timestamp",
}
_READERS: dict[str, Any] = {
    **{name: _integer(kind) for kind, name in _INT_NAMES.items()},
    "$float32": lambda content: TypedFloat(content),
    "$string": lambda content: TypedBytes(base64.b64decode(content, validate=True)),
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$timestamp": _time_or_number,
    "$decimal": lambda content: Decimal(content),
    "$float": float,
}


def iso_moment(moment: datetime) -> str:
    """A time as ISO text in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def refuse(field: str, expected: str, found: Any) -> NoReturn:
    """Raises InvalidMessage."""
    raise InvalidMessage(
        f"{field}: expected {expected}, found {found!r:.80}", field=field, expected=expected, found=found
    )
