"""Reading captures, what `tail -o jsonl` printed, and the folders of rabtap."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from busctl_lib.captures import rabtap
from busctl_lib.captures.lines import delivery_of
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ConfigError, InvalidMessage

_CHUNK_BYTES = 4096
"""Unpacked at once: a block of zstd, of which four bytes may say 128 KiB."""
_MAGIC = b"\x28\xb5\x2f\xfd"


class CaptureReader:
    """Yields the messages of a capture, in order; can be read once for a stream, and any number of times for a path.

    Args:
        source: A file, compressed or not, a folder that rabtap wrote, or an open binary stream.

    Raises:
        ConfigError: it cannot be read.
        InvalidMessage: while reading, when a line is no message or not the one that was captured (fact `line`).
    """

    def __init__(self, source: Path | IO[bytes]) -> None:
        self.warnings: list[str] = []
        """What was skipped, a sentence each."""
        self._source = source
        self.name = str(source) if isinstance(source, Path) else "standard input"
        if isinstance(source, Path) and not source.exists():
            raise ConfigError(f"{source} is not there")

    def __iter__(self) -> Iterator[Delivery]:
        try:
            if isinstance(self._source, Path) and self._source.is_dir():
                yield from rabtap.read_folder(self._source)
            elif isinstance(self._source, Path):
                with self._source.open("rb") as file:
                    yield from self._messages(file)
            else:
                yield from self._messages(self._source)
        except OSError as error:
            raise ConfigError(f"{self.name} cannot be read: {error.strerror or error}") from error

    def _messages(self, file: IO[bytes]) -> Iterator[Delivery]:
        for number, line in enumerate(self._lines(file), 1):
            if not line.strip():
                continue
            if not line.endswith(b"\n"):
                try:
                    yield delivery_of(line)  # whole all the same: an editor left the last line's end away
                except InvalidMessage:
                    self.warnings.append(f"{self.name}: line {number} was cut in the middle and is skipped")
                continue
            try:
                yield delivery_of(line)
            except InvalidMessage as error:
                facts = {**error.facts, "line": number}
                raise InvalidMessage(f"{self.name}, line {number}: {error}", hint=error.hint, **facts) from None

    def _lines(self, file: IO[bytes]) -> Iterator[bytes]:
        buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
        if buffered.peek(4)[:4] != _MAGIC:
            yield from buffered
            return
        unpacked = _Unpacked(buffered)
        try:
            yield from io.BufferedReader(unpacked)
        except zstandard.ZstdError as error:
            self.warnings.append(f"{self.name}: the rest cannot be unpacked and is skipped ({error})")
        else:
            if unpacked.unfinished:
                self.warnings.append(f"{self.name}: it was cut or its writer killed: its last messages may be missing")


class _Unpacked(io.RawIOBase):
    """What zstd frames, one behind the other, have in them; the last may be cut."""

    def __init__(self, packed: io.BufferedReader[Any]) -> None:
        self.unfinished = False
        """Whether the frame that is being read has not ended."""
        self._packed = packed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._made = memoryview(b"")
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As of RawIOBase; 0 at the end of the file."""
        while not self._made:
            data = self._rest or self._packed.read1(_CHUNK_BYTES)
            if not data:
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._made = memoryview(self._frame.decompress(data))
            self._rest = self._frame.unused_data
            self.unfinished = not self._frame.eof
        count = min(len(buffer), len(self._made))
        buffer[:count], self._made = self._made[:count], self._made[count:]
        return count
