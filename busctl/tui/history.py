"""History: the commands that were typed, kept for the next time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

KEPT = 200


def history_path() -> Path:
    """Where the commands are kept."""
    return platformdirs.user_state_path("busctl", appauthor=False) / "console-history"


class History:
    """Typed lines, the newest last; in memory alone where the file cannot be written."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or history_path()
        self._lines: list[str] = []
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self._lines = self._path.read_text("utf-8").splitlines()[-KEPT:]

    @property
    def lines(self) -> Sequence[str]:
        """Oldest first."""
        return self._lines

    def add(self, line: str) -> None:
        """Remember a line; one that was typed before moves to the end."""
        if not line.isprintable():
            return
        with contextlib.suppress(ValueError):
            self._lines.remove(line)
        self._lines = [*self._lines, line][-KEPT:]
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            beside.touch(mode=0o600)
            beside.write_text("".join(f"{kept}\n" for kept in self._lines), "utf-8")
            beside.replace(self._path)

    def suggestion(self, beginning: str) -> str | None:
        """The newest line that begins so."""
        return next((line for line in reversed(self._lines) if line.startswith(beginning) and line != beginning), None)
