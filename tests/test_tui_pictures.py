"""Pictures of the console: columns stand where they stand on the screen, in any viewer."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.text import Text

from busctl.tui.pictures import in_columns

_CELL = 12.2
ROWS = ("  NAME       READY", "  obs <a> 日本  12.0k", "     x & y", " a ⠤⣀ b")


def test_each_word_stands_at_its_column() -> None:
    console = Console(width=40, record=True, file=io.StringIO(), force_terminal=True)
    for row in ROWS:
        console.print(Text(row), highlight=False)
    found = re.findall(r' x="([^"]+)" y="[^"]+" textLength="([^"]+)"[^>]*>([^<]*)<', in_columns(console.export_svg()))
    assert [(round(float(x) / _CELL), text.replace("\xa0", " ")) for x, _, text in found if text.strip()] == [
        *((2, "NAME"), (13, "READY")),
        *((2, "obs &lt;a&gt; 日本"), (16, "12.0k")),
        (5, "x &amp; y"),
        *((1, "a"), (3, "⠤"), (4, "⣀"), (6, "b")),
    ]
    assert [round(float(length) / _CELL) for _, length, text in found if "obs" in text] == [12]
