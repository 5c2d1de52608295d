"""How messages are printed: one line each for people, documents, or bare bodies."""

from __future__ import annotations

import enum
import re
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from busctl.cli import output
from busctl_lib.errors import ConfigError

if TYPE_CHECKING:
    from busctl_lib.codecs import Keyring
    from busctl_lib.envelope import Delivery

_NAME = re.compile(r'"(?:[^"\\]|\\.)*"(?=:)')
_ESCAPE = re.compile(r"\\(n|r|t|0|\\|x[0-9a-fA-F]{2})")
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\"}


class MessageFormat(enum.StrEnum):
    """How messages are printed."""

    PRETTY = "pretty"
    JSONL = "jsonl"
    RAW = "raw"


class Printer:
    """Prints messages one way."""

    write: Callable[[bytes], None] = staticmethod(output.write_text)
    """What its lines are: text, JSON or bytes."""

    def print(self, deliveries: Sequence[Delivery]) -> None:
        """Print what came together, in one write."""
        if deliveries:
            self.write(b"".join(map(self.line, deliveries)))

    def line(self, delivery: Delivery) -> bytes:
        """Form one message, with its end of line."""
        raise NotImplementedError


class Jsonl(Printer):
    """Documents."""

    write = staticmethod(output.write_json_text)

    def __init__(self, keys: Keyring | None = None) -> None:
        self._keys = keys

    def line(self, delivery: Delivery) -> bytes:
        """Form the document."""
        from busctl_lib.documents import to_json

        return to_json(delivery, keys=self._keys) + b"\n"


class Raw(Printer):
    """The body as it is; on a terminal made harmless."""

    def __init__(self, separator: bytes = b"\n") -> None:
        self._separator = separator
        self.write = output.write_text if output.is_terminal() else output.write_bytes

    def line(self, delivery: Delivery) -> bytes:
        """Give the body."""
        if not output.is_terminal():
            return delivery.body + self._separator
        from busctl.views.formats import safe_text

        return safe_text(delivery.body.decode("utf-8", "backslashreplace"), keep_lines=True).encode() + b"\n"


class Pretty(Printer):
    """One line a message; on a terminal as wide as that and with coloured names, elsewhere whole and plain."""

    def __init__(self, keys: Keyring | None = None, body_limit: int | None = None) -> None:
        self._keys = keys
        self._body_limit = body_limit
        self._key_width = 8
        self._type_width = 4

    def line(self, delivery: Delivery) -> bytes:
        """Lay the message out."""
        from busctl.views import messages
        from busctl.views.formats import cell_width
        from busctl.views.view import Tone

        row = messages.row(delivery, self._body_limit, self._keys)
        key, kind, body = output.shown(row.key), output.shown(row.type), output.shown(row.body)
        self._key_width = min(32, max(self._key_width, cell_width(key)))
        self._type_width = min(20, max(self._type_width, cell_width(kind)))
        head = f"{_padded(key, self._key_width)}  {row.size:>8}  {_padded(kind, self._type_width)}  "
        if output.is_terminal():
            room = shutil.get_terminal_size().columns - len(row.time) - 2 - cell_width(head)
            body = output.cut(body, max(room, 8))
            body = _NAME.sub(lambda name: output.paint(name[0], Tone.MUTED), body)
        return f"{output.paint(row.time, Tone.MUTED)}  {head}{body}".rstrip().encode() + b"\n"


class Fields(Printer):
    """Chosen fields of the document: tab-separated, or as a JSON object."""

    def __init__(self, text: str, form: MessageFormat, keys: Keyring | None = None) -> None:
        self._names = [name.strip() for name in text.split(",") if name.strip()]
        from busctl_lib.documents import FIELDS

        if not self._names:
            raise ConfigError("--fields: which? for example routing_key,body.symbol")
        unknown = [name for name in self._names if name.partition(".")[0] not in FIELDS]
        if unknown:
            raise ConfigError(f"--fields: a message has no {unknown[0]!r:.40}", hint=f"it has: {', '.join(FIELDS)}")
        self._as_json = form is MessageFormat.JSONL
        self.write = output.write_json_text if self._as_json else output.write_text
        self._keys = keys

    def line(self, delivery: Delivery) -> bytes:
        """Pick the fields."""
        import msgspec

        from busctl_lib.documents import document

        found = document(delivery, keys=self._keys)
        picked = {name: _pick(found, name) for name in self._names}
        if self._as_json:
            return msgspec.json.encode({name: value for name, value in picked.items() if value is not None}) + b"\n"
        return "\t".join(output.tsv_text(_plain(value)) for value in picked.values()).encode() + b"\n"


def _pick(found: Any, path: str) -> Any:
    """Follow a path of names; a name may have dots of its own. None where it leads nowhere."""
    if isinstance(found, list) and path.partition(".")[0].isdigit():
        index, _, rest = path.partition(".")
        item = found[int(index)] if int(index) < len(found) else None
        return _pick(item, rest) if rest else item
    if not isinstance(found, dict):
        return None
    if path in found:
        return found[path]
    for end in [index for index, sign in enumerate(path) if sign == "."]:
        if path[:end] in found and (value := _pick(found[path[:end]], path[end + 1 :])) is not None:
            return value
    return None


def _plain(value: Any) -> str:
    import msgspec

    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def separator_of(text: str) -> bytes:
    r"""Read --raw-separator: text with \n \r \t \0 \\ \xNN."""

    def written(found: re.Match[str]) -> str:
        sign = found[1]
        return (bytes([int(sign[1:], 16)]) if sign[0] == "x" else _ESCAPES[sign]).decode("latin-1")

    return _ESCAPE.sub(written, text.encode().decode("latin-1")).encode("latin-1")


def printer_of(
    form: MessageFormat,
    *,
    fields: str | None = None,
    separator: str | None = None,
    keys: Keyring | None = None,
    body_limit: int | None = None,
) -> Printer:
    """Make the printer that was asked for; on lines for people a body has `body_limit` characters at most."""
    if separator is not None and form is not MessageFormat.RAW:
        raise ConfigError("--raw-separator goes with -o raw")
    if fields is not None:
        if form is MessageFormat.RAW:
            raise ConfigError("--fields picks of the document: not with -o raw")
        return Fields(fields, form, keys)
    if form is MessageFormat.RAW:
        return Raw(b"\n" if separator is None else separator_of(separator))
    return Jsonl(keys) if form is MessageFormat.JSONL else Pretty(keys, body_limit)


def _padded(text: str, width: int) -> str:
    from busctl.views.formats import cell_width

    return text + " " * max(0, width - cell_width(text))
