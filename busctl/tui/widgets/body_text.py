"""A message's body for the eye: JSON laid out and coloured, other text as it is, binary as hex. All of it harmless."""

from __future__ import annotations

import re

import msgspec
from textual.content import Content

from busctl.views.formats import safe_text, size
from busctl.views.messages import unread_as
from busctl_lib.codecs import Body

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


def body_text(body: Body) -> Content:
    """Lay a body out."""
    if not body.data:
        return Content.styled("(empty)", "$muted")
    whole = f"\n… {size(len(body.data))} in all"
    if body.text is None:
        note = whole if len(body.data) > SHOWN_BYTES // 16 else ""
        said = unread_as(body)
        head = Content.styled(f"{safe_text(said)}\n\n", "$text-warning") if said else Content("")
        return head + Content(_hex(body.data[: SHOWN_BYTES // 16])) + Content.styled(note, "$muted")
    note = whole if len(body.text) > SHOWN_BYTES else ""
    try:
        # From the text as it is, so that 150.0 stays 150.0 and long numbers keep their digits.
        text = msgspec.json.format(body.text, indent=2)[:SHOWN_BYTES] if body.text[:1] in ("{", "[", '"') else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        text = None
    if text is not None:
        shown = _coloured(safe_text(_FLAT_ARRAY.sub(_on_one_line, text), keep_lines=True))
    else:
        shown = Content(safe_text(body.text[:SHOWN_BYTES], keep_lines=True))
    return shown + Content.styled(note, "$muted")


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
