"""Bodies: what was typed after a queue's name, as the bytes to send."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from busctl.views import formats
from busctl_lib.errors import ConfigError

PAIR = re.compile(r"^(?P<name>[A-Za-z_][\w.-]*)(?P<sign>:=|=)(?P<text>.*)$", re.DOTALL)
"""NAME=TEXT or NAME:=JSON."""


@dataclass(frozen=True, slots=True)
class Body:
    """What to send: the bytes, and the message they stand for where it is JSON."""

    data: bytes
    content_type: str
    message: Any = None
    from_pairs: bool = field(default=False)


def body_of(words: list[str], *, raw: bool) -> Body:
    """Make a body of pairs, or take the one word as it is. Raises ConfigError."""
    pairs = [] if raw else [PAIR.match(word) for word in words]
    if pairs and all(pairs):
        message = object_of([pair for pair in pairs if pair is not None])
        return Body(json.dumps(message, ensure_ascii=False).encode(), "application/json", message, from_pairs=True)
    if not words:
        raise ConfigError("no message: give NAME=TEXT pairs, a body, or - to read standard input")
    if len(words) > 1:
        odd = next((word for word, pair in zip(words, pairs, strict=False) if pair is None), words[1])
        raise ConfigError(
            f"{formats.safe_text(odd, 40)!r} is neither NAME=TEXT nor NAME:=JSON, and a body is one argument",
            hint="put a body with spaces in quotes",
        )
    return of_bytes(words[0].encode("utf-8", "surrogateescape"))


def object_of(pairs: list[re.Match[str]]) -> dict[str, Any]:
    """Make an object of NAME=TEXT and NAME:=JSON pairs. Raises ConfigError."""
    made: dict[str, Any] = {}
    for pair in pairs:
        if pair["name"] in made:
            raise ConfigError(f"{pair['name']} is given twice")
        made[pair["name"]] = _value(pair)
    return made


def _value(pair: re.Match[str]) -> Any:
    try:
        pair["text"].encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{pair['name']}: {formats.safe_text(pair['text'], 40)!r} is not valid UTF-8",
            hint="such bytes can only be a whole body",
        ) from None
    if pair["sign"] == "=":
        return pair["text"]
    try:
        return json.loads(pair["text"], parse_constant=_no_constant)
    except ValueError:
        raise ConfigError(
            f"{pair['name']}: {formats.safe_text(pair['text'], 40)!r} is not JSON",
            hint=f"for text write {pair['name']}=...",
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def of_bytes(data: bytes) -> Body:
    """Look at what a body is; it is sent as it is in any case."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Body(data, "application/octet-stream")
    try:
        return Body(data, "application/json", json.loads(text, parse_constant=_no_constant))
    except ValueError:
        return Body(data, "text/plain")
