"""Text for a stream that cannot carry all of it: "-" for a dash, "+" for a corner of a frame, else an escape.

A stream takes what it is given by a codec's error handler, so that no writer has to know: those of other libraries do
not either. Importing this module registers the handlers.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import sys
import unicodedata
from collections.abc import Callable, Iterator

from busctl.views.formats import cell_width

PLAIN = "busctl.plain"
"""The error handler of a stream of text."""
CELLS = "busctl.cells"
"""The one of a screen: what it puts takes exactly the room of what it replaces."""
_MARKS = {"\u2026": "..."} | dict(
    zip(
        "\u00b7\u2022\u2016\u2205\u2212\u00d7\u2713\u2716\u2717\u25cf\u25cb\u25cc\u25f7\u21bb\u2018\u2019\u201c\u201d"
        "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588",
        ".*|0-x*xx*oooo''\"\"_.-~=+*#",
        strict=True,
    )
)
"""What our own texts and their frames are drawn with, where no rule below says it."""
_NAMED = (
    *(("RIGHTWARDS ARROW", ">"), ("LEFTWARDS ARROW", "<"), ("UPWARDS ARROW", "^"), ("DOWNWARDS ARROW", "v")),
    *(("UP-POINTING", "^"), ("DOWN-POINTING", "v"), ("RIGHT-POINTING", ">"), ("LEFT-POINTING", "<")),
    *(("PATTERN BLANK", " "), ("BRAILLE PATTERN", ":"), ("BLOCK", "#"), ("SHADE", "#"), ("QUADRANT", "#")),
)


@functools.lru_cache(2048)
def substitute(character: str) -> str | None:
    """What stands for a sign that is drawn, in ASCII; None for a letter, of which nothing else would be the same."""
    if character in _MARKS:
        return _MARKS[character]
    name, category = unicodedata.name(character, ""), unicodedata.category(character)
    if name.startswith("BOX DRAWINGS"):
        upright, level = "VERTICAL" in name or " UP" in name or " DOWN" in name, "HORIZONTAL" in name
        return "+" if (upright and level) or "AND" in name or "ARC" in name else "|" if upright else "-"
    if category in ("Pd", "Zs"):
        return "-" if category == "Pd" else " "
    return next((sign for part, sign in _NAMED if part in name), None)


def plain(text: str, encoding: str) -> str:
    """The text as a stream of that encoding will show it."""
    return text if text.isascii() else text.encode(encoding, PLAIN).decode(encoding)


def escaped(text: str, encoding: str) -> str:
    r"""The text with `\u2013` for what the encoding cannot carry: a name must never look like another one."""
    return text if text.isascii() else text.encode(encoding, "backslashreplace").decode(encoding)


@contextlib.contextmanager
def drawn_in_cells() -> Iterator[None]:
    """Let stderr, on which a console is drawn, keep its cells in place meanwhile."""
    screen = sys.__stderr__
    if not isinstance(screen, io.TextIOWrapper):
        yield
        return
    before = screen.errors
    screen.reconfigure(errors=CELLS)
    try:
        yield
    finally:
        screen.reconfigure(errors=before)


def _handler(replace: Callable[[str], str]) -> Callable[[UnicodeError], tuple[str, int]]:
    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(map(replace, error.object[error.start : error.end])), error.end

    return handle


def _sign(character: str) -> str:
    found = substitute(character)
    return character.encode("ascii", "backslashreplace").decode() if found is None else found


def _cells(character: str) -> str:
    width = cell_width(character)
    return ((substitute(character) or "?")[:1] * width)[:width]


codecs.register_error(PLAIN, _handler(_sign))
codecs.register_error(CELLS, _handler(_cells))
