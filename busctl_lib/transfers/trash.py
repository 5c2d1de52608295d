"""The trash: what busctl takes away is kept in a capture first, so that it can be put back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import platformdirs

from busctl_lib.captures import CaptureWriter
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError

TRASH_MESSAGES = 100_000
TRASH_BYTES = 1 << 30
"""How much of one operation is kept: messages, and bytes of their bodies."""


def trash_folder() -> Path:
    """Where the trash of this user is."""
    return platformdirs.user_state_path("busctl") / "trash"


class Trash:
    """The trash of one operation.

    Args:
        operation: Its id.
        folder: Where; `trash_folder()` by default.

    Raises:
        BusError: it cannot be written; from every method.
    """

    def __init__(self, operation: str, folder: Path | None = None) -> None:
        self.path = (folder or trash_folder()) / operation
        self._writer: CaptureWriter | None = None
        self._messages = self._bytes = 0

    def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages in, up to the bound; they are on the disk when this returns."""
        within = []
        for delivery in deliveries:
            self._bytes += len(delivery.body)
            self._messages += 1
            if self._messages <= TRASH_MESSAGES and self._bytes <= TRASH_BYTES:
                within.append(delivery)
        if within:
            writer = self._writer or self._open()
            for delivery in within:
                writer.write(delivery)
            writer.sync()

    def _open(self) -> CaptureWriter:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BusError(f"the trash {self.path} cannot be written: {error.strerror}") from error
        number = len(list(self.path.glob("*.jsonl.zst"))) + 1
        self._writer = CaptureWriter(self.path / f"{number:04}.jsonl.zst")
        return self._writer

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
