"""Pictures of the console, as SVG, that look the same wherever they are opened."""

from __future__ import annotations

import html
import re

from rich.cells import cell_len

_TEXT = re.compile(
    r'<text class="([^"]+)" x="([^"]+)" y="([^"]+)" textLength="([^"]+)" clip-path="([^"]+)">([^<]*)</text>'
)
_DOTS = "\N{BRAILLE PATTERN BLANK}-\N{BRAILLE PATTERN DOTS-12345678}"
_GAP = "\N{NO-BREAK SPACE}"
_WORDS = re.compile(f"[{_DOTS}]|[^{_GAP}{_DOTS}]+(?:{_GAP}[^{_GAP}{_DOTS}]+)*")
"""Words, and each character of a chart, which comes from a font of another width where the first one lacks it."""


def in_columns(svg: str) -> str:
    """Give each word of Textual's picture its own place.

    Not every viewer stretches a text to its `textLength` or keeps the spaces it begins with, and columns shift.
    """
    return _TEXT.sub(_placed, svg)


def _placed(match: re.Match[str]) -> str:
    kind, x, y, length, clip, escaped = match.groups()
    text = html.unescape(escaped)
    cell = float(length) / max(1, len(text))  # what is two cells wide counts once in it
    return "\n".join(
        f'<text class="{kind}" x="{float(x) + cell * cell_len(text[: words.start()]):.1f}" y="{y}" '
        f'textLength="{cell * cell_len(words[0]):.1f}" clip-path="{clip}">{html.escape(words[0], quote=False)}</text>'
        for words in _WORDS.finditer(text)
    )
