"""A line of progress on a terminal's stderr, written over itself; nothing where stderr is no terminal."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Self

from busctl.cli import exits, output
from busctl.views.formats import safe_text

_EVERY_S = 0.1
_USUAL_WIDTH = 80


class Progress:
    """Shows the latest text until the block ends, then takes it away."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._shown = wanted and sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            exits.write_over("")

    def show(self, text: str) -> None:
        """Show a text; what comes too fast for an eye is left out."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + _EVERY_S
            exits.write_over(output.cut(safe_text(text), _width() - 1))


def _width() -> int:
    """Cells of stderr's line; stdout may be a pipe."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH
