"""Saving: what a tail sees goes into a capture in the folder the console was started in."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from busctl_lib.errors import BusError

if TYPE_CHECKING:
    from busctl_lib.captures import CaptureWriter
    from busctl_lib.envelope import Delivery


class Saving:
    """One capture at a time. It has all messages, also those that the screen is too slow for.

    Thread: `toggle` and `line` on the app's; the rest on the one that reads the tap.
    """

    def __init__(self) -> None:
        self._wanted: Path | None = None
        self._path: Path | None = None
        self._writer: CaptureWriter | None = None
        self._count = 0
        self._trouble = ""

    @property
    def line(self) -> str | None:
        """How it goes; None when nothing is saved."""
        if self._trouble:
            return f"not saved: {self._trouble}"
        return f"{self._count:,} saved" if self._wanted is not None else None

    def toggle(self, queue: str) -> str:
        """Begin, or end; says which."""
        if self._wanted is not None:
            name, self._wanted = self._wanted.name, None
            return f"{self._count:,} messages in {name}"
        plain = re.sub(r"[^\w.-]", "_", queue)[:80]
        self._trouble = ""
        self._wanted = Path(f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
        return f"all that comes goes into {self._wanted.name}; ctrl+o ends it"

    def settle(self) -> None:
        """Open or close the file as was asked for."""
        if self._wanted == self._path:
            return
        self.end()
        if self._wanted is not None:
            self._path, self._count = self._wanted, 0
            try:
                from busctl_lib.captures import CaptureWriter

                self._writer = CaptureWriter(self._wanted)
            except (OSError, BusError) as error:
                self._give_up(error)

    def write(self, delivery: Delivery) -> None:
        """Write a message, where a capture is open."""
        if self._writer is None:
            return
        try:
            self._writer.write(delivery)
            self._count += 1
        except (OSError, BusError) as error:
            self._give_up(error)

    def end(self) -> None:
        """Close the file."""
        writer, self._writer, self._path = self._writer, None, None
        if writer is not None:
            try:
                writer.close()
            except (OSError, BusError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._trouble = str(error)
        self._writer = None
