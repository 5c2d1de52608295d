"""A message's body for the eye: JSON laid out and coloured, other text as it is, binary as hex. All of it harmless."""

from __future__ import annotations

import re

import msgspec
from textual.content import Content

from busctl.views.formats import safe_text, size

SHOWN_BYTES = 64_000
"""More of one body is not drawn."""
_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<value>-?\d[\d.eE+-]*|true|false|null)'
)
_STYLES = {"key": "$text-primary", "text": "$text-success", "value": "$text-accent"}
_FLAT_ARRAY = re.compile(r"\[\n\s*([^\[\]{}]*?)\n\s*\]")
_LINE_BREAK = re.compile(r"\n\s*")
_LINE_WIDTH = 60
_HEX_WIDTH = 16


def body_text(body: bytes) -> Content:
    """Lay a body out."""
    if not body:
        return Content.styled("(empty)", "$muted")
    note = f"\n… {size(len(body))} in all" if len(body) > SHOWN_BYTES else ""
    try:
        # From the bytes as they are, so that 150.0 stays 150.0 and long numbers keep their digits.
        text = msgspec.json.format(body, indent=2).decode()[:SHOWN_BYTES] if body[:1] in b'{["' else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = None
    if text is not None:
        return _coloured(safe_text(_FLAT_ARRAY.sub(_on_one_line, text), keep_lines=True)) + Content.styled(
            note, "$muted"
        )
    try:
        plain = body[:SHOWN_BYTES].decode("utf-8", "strict" if not note else "replace")
    except UnicodeDecodeError:
        return Content(_hex(body[: SHOWN_BYTES // 16])) + Content.styled(note, "$muted")
    return Content(safe_text(plain, keep_lines=True)) + Content.styled(note, "$muted")


def _on_one_line(array: re.Match[str]) -> str:
    """An array without arrays or objects in it, as a price level is, reads better on one line."""
    line = "[" + _LINE_BREAK.sub(" ", array[1]) + "]"
    return line if len(line) <= _LINE_WIDTH else array[0]


def _coloured(text: str) -> Content:
    parts: list[str | tuple[str, str]] = []
    end = 0
    for token in _TOKEN.finditer(text):
        parts += [text[end : token.start()], (token[0], _STYLES[token.lastgroup or "text"])]
        end = token.end()
    return Content.assemble(*parts, text[end:])


def _hex(body: bytes) -> str:
    lines = []
    for start in range(0, len(body), _HEX_WIDTH):
        piece = body[start : start + _HEX_WIDTH]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in piece)
        lines.append(f"{start:06x}  {piece.hex(' '):<{_HEX_WIDTH * 3}} {shown}")
    return "\n".join(lines)
