"""Which process runs an operation: a lock on a file, which a kill lets go of."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from busctl_lib.errors import GuardRefused


class Claims:
    """The operations that this process runs.

    Args:
        folder: Where the files are; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}

    def take(self, operation: str) -> None:
        """Make an operation our own. Raises GuardRefused: another process runs it. OSError: no file can be made."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        while True:
            file = open(self._path(operation), "ab")  # noqa: SIM115 - held until release
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise GuardRefused(f"operation {operation} is running in another process") from None
            if os.fstat(file.fileno()).st_nlink:
                break
            file.close()  # it was let go of, and its file deleted, since we opened it
        self._files[operation] = file

    def release(self, operation: str) -> None:
        """Let go of one; its file goes too."""
        file = self._files.pop(operation, None)
        if file is not None:
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            file.close()

    def is_taken(self, operation: str) -> bool:
        """Whether a process runs it, this one or another."""
        if operation in self._files:
            return True
        try:
            with self._path(operation).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def close(self) -> None:
        """Let go of all, as a kill would."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _path(self, operation: str) -> Path:
        return self._folder / f"{operation}.lock"
