"""Writing captures: a file that is good up to its last whole line, whatever happens."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import zstandard

from busctl_lib.captures.lines import line_of
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, ConfigError

FLUSH_S = 1.0
"""How old what is not in the file yet can be while messages come."""
SUFFIXES = (".jsonl", ".jsonl.zst")
_NAME = re.compile(r"(?P<stem>.*?)(?P<suffix>\.jsonl(\.zst)?)", re.DOTALL)


class CaptureWriter:
    """Writes messages to a new file; a context manager.

    Args:
        path: Ends in `.jsonl` or `.jsonl.zst`; must not be there yet.
        rotate_bytes: Go on in another file (`name.2.jsonl`, `name.3.jsonl` ...) when one has this size.

    Raises:
        ConfigError: the file is there already, or has another ending.
        BusError: it cannot be written (also from `write`, `flush`, `sync`).

    Thread: one at a time.
    """

    def __init__(self, path: Path, *, rotate_bytes: int | None = None) -> None:
        found = _NAME.fullmatch(path.name)
        if found is None:
            raise ConfigError(f"{path}: a capture ends in {' or '.join(SUFFIXES)}")
        self.paths: list[Path] = []
        """The files written so far."""
        self.count = 0
        """Messages written, without those of a write that failed."""
        self._folder, self._stem, self._suffix = path.parent, found["stem"], found["suffix"]
        self._rotate_bytes = rotate_bytes
        self._file: IO[bytes] | None = None
        self._packer: Any = None
        self._size = 0
        self._pending: list[bytes] = []
        self._flushed_at = time.monotonic()
        self._open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, delivery: Delivery) -> None:
        """Add a message; it is in the file a second later at most, if more come, or after `flush`."""
        line = line_of(delivery) + b"\n"
        if self._rotate_bytes is not None and self._size and self._size + len(line) > self._rotate_bytes:
            self._rotate()
        self._pending.append(line)
        self._size += len(line)
        self.count += 1
        if len(self._pending) >= 256 or time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Put all into the file, so that a kill of this process loses nothing."""
        assert self._file is not None
        self._flushed_at = time.monotonic()
        lines, self._pending = self._pending, []
        data = b"".join(lines)
        try:
            if self._packer is None:
                self._file.write(data)
            elif data:
                self._packer.write(data)
                self._packer.flush(zstandard.FLUSH_BLOCK)
            self._file.flush()
        except OSError as error:
            self.count -= len(lines)
            raise _cannot(self.paths[-1], error) from error
        if self._packer is not None and self._rotate_bytes is not None:
            self._size = max(self._file.tell(), 1)  # of a compressed file its own size counts

    def sync(self) -> None:
        """Put all onto the disk, so that a crash of the machine loses nothing."""
        self.flush()
        assert self._file is not None
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _cannot(self.paths[-1], error) from error

    def close(self) -> None:
        """Finish the file. A second time is fine."""
        if self._file is None:
            return
        try:
            with self._file:
                self.flush()
                if self._packer is not None:
                    self._packer.flush(zstandard.FLUSH_FRAME)
        except OSError as error:
            raise _cannot(self.paths[-1], error) from error
        finally:
            self._file = None

    def _rotate(self) -> None:
        self.close()
        self._open(self._folder / f"{self._stem}.{len(self.paths) + 1}{self._suffix}")

    def _open(self, path: Path) -> None:
        try:
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except FileExistsError:
            raise ConfigError(
                f"{path} is there already", hint="captures are never written over: choose a name"
            ) from None
        except OSError as error:
            raise _cannot(path, error) from error
        self.paths.append(path)
        self._size = 0
        if self._suffix.endswith(".zst"):
            self._packer = zstandard.ZstdCompressor().stream_writer(self._file, closefd=False)


def _cannot(path: Path, error: OSError) -> BusError:
    return BusError(f"{path} cannot be written: {error.strerror or error}")
