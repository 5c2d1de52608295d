"""Bodies: what was typed after a queue's name, as the bytes to send."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from busctl.views import formats
from busctl_lib.errors import ConfigError
from busctl_lib.pairs import PAIR, json_of, object_of


@dataclass(frozen=True, slots=True)
class Body:
    """What to send: the bytes, and the message they stand for where it is JSON."""

    data: bytes
    content_type: str
    message: Any = None
    from_pairs: bool = field(default=False)


def body_of(words: list[str], *, raw: bool) -> Body:
    """Make a body of pairs, or take the one word as it is. Raises ConfigError."""
    odd = [word for word in words if raw or not PAIR.match(word)]
    if words and not odd:
        message = object_of(words)
        return Body(json.dumps(message, ensure_ascii=False).encode(), "application/json", message, from_pairs=True)
    if not words:
        raise ConfigError("no message: give NAME=TEXT pairs, a body, or - to read standard input")
    if len(words) > 1:
        raise ConfigError(
            f"{formats.safe_text(words[1] if raw else odd[0], 40)!r} is neither NAME=TEXT nor NAME:=JSON, and a body is"
            " one argument",
            hint="put a body with spaces in quotes",
        )
    return of_bytes(words[0].encode("utf-8", "surrogateescape"))


def of_bytes(data: bytes) -> Body:
    """Look at what a body is; it is sent as it is in any case."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Body(data, "application/octet-stream")
    try:
        return Body(data, "application/json", json_of(text))
    except ValueError:
        return Body(data, "text/plain")
