"""Reading captures, what `tail -o jsonl` printed, and what other tools write."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import zstandard

from busctl_lib.captures import dumps, rabtap
from busctl_lib.captures.forms import LOST_TYPES, TAR, kind_of_file, message_of
from busctl_lib.codecs.charsets import read_text
from busctl_lib.envelope import Delivery
from busctl_lib.errors import ConfigError, InvalidMessage

LINE_BYTES = 192 << 20
"""More of a line is not read: RabbitMQ takes messages of 128 MiB at most, which are a third longer in base64."""
_CHUNK_BYTES = 512
"""Unpacked at once: a block of zstd, of which four bytes may say 128 KiB."""
_WINDOW_BYTES = 32 << 20
"""The memory a packed capture may ask for to be read; our own ask for 2 MiB."""
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_HEAD_BYTES = 512
_SPACE = re.compile(r"\s*")
_BEGINNINGS = (b'{"queue"', b'{"exchange"')
"""Of lines that we write."""
_RABBITIO = "`rabbitio in` publishes them; `busctl record` makes a capture"
_PACKED_WRONG = (zstandard.ZstdError, EOFError, zlib.error, gzip.BadGzipFile)


class CaptureReader:
    """Yields the messages of a capture, in order; can be read once for a stream, and any number of times for a path.

    Read as well: what the management API's `get` gives, messages of rabtap (in a file or a folder), folders of
    rabbitmq-dump-queue; also packed by zstd or gzip, and as JSON over several lines.

    Args:
        source: A file, a folder, or an open binary stream.

    Raises:
        ConfigError: it cannot be read, or is something else (said by name).
        InvalidMessage: while reading, when a line is no message or not the one that was captured (fact `line`).
    """

    def __init__(self, source: Path | IO[bytes]) -> None:
        self.warnings: list[str] = []
        """What was skipped, a sentence each."""
        self.count = 0
        """How many messages it gave."""
        self.is_empty = True
        """Whether there was nothing at all in it, not even a blank line."""
        self._said = ""
        """What it is instead of messages."""
        self._source = source
        self.name = str(source) if isinstance(source, Path) else "standard input"
        if isinstance(source, Path) and not source.exists():
            raise ConfigError(f"{source} is not there")

    def __iter__(self) -> Iterator[Delivery]:
        self.count = 0
        try:
            for delivery in self._read():
                self.count += 1
                yield delivery
        except OSError as error:
            raise ConfigError(f"{self.name} cannot be read: {error.strerror or error}") from error

    def require_messages(self) -> None:
        """Refuse a file that was read to its end and had something in it, but no message. Raises InvalidMessage."""
        if self.count or self.is_empty:
            return
        why = self._said or (self.warnings[-1] if self.warnings else "only blank lines")
        raise InvalidMessage(
            f"there is no message in {self.name}: {why}", field="file", expected="messages", found=self.name
        )

    def _read(self) -> Iterator[Delivery]:
        if not isinstance(self._source, Path):
            yield from self._messages(self._source)
        elif self._source.is_dir():
            yield from self._of_folder(self._source)
        else:
            with self._source.open("rb") as file:
                yield from self._messages(file)

    def _of_folder(self, folder: Path) -> Iterator[Delivery]:
        self.is_empty = False
        if any(folder.glob("rabtap*.json")):
            yield from rabtap.read_folder(folder)
        elif dumps.bodies_in(folder):
            yield from dumps.read_folder(folder)
        elif any(folder.glob("*_messages_*.tgz")):
            raise ConfigError(f"{folder} has tar archives of rabbitio in it, which are not read", hint=_RABBITIO)
        else:
            raise ConfigError(
                f"{folder} is a folder without rabtap's files (rabtap*.json) or rabbitmq-dump-queue's (msg-*)"
            )

    def _messages(self, file: IO[bytes]) -> Iterator[Delivery]:
        unpacked = self._unpacked(file)
        try:
            yield from self._of_lines(unpacked)
        except _PACKED_WRONG as error:
            if not self.count:
                raise ConfigError(f"{self.name} cannot be unpacked: {error}") from None
            self.warnings.append(f"{self.name}: the rest cannot be unpacked and is skipped ({error})")
        else:
            if isinstance(unpacked.raw, _Unpacked) and unpacked.raw.unfinished:
                self.warnings.append(f"{self.name}: it was cut or its writer killed: its last messages may be missing")

    @staticmethod
    def _unpacked(file: IO[bytes]) -> io.BufferedReader[Any]:
        buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
        head = buffered.peek(4)[:4]
        if head == _ZSTD:
            return io.BufferedReader(_Unpacked(buffered))
        return io.BufferedReader(gzip.GzipFile(fileobj=buffered)) if head[:2] == _GZIP else buffered

    def _of_lines(self, file: io.BufferedReader[Any]) -> Iterator[Delivery]:
        self.is_empty = not file.peek(1)
        number = 0
        while line := self._line(file, number + 1):
            number += 1
            if not line.strip():
                continue
            try:
                value = msgspec.json.decode(line)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                is_cut = not line.endswith(b"\n") and (self.count or line.startswith(_BEGINNINGS))
                if is_cut:
                    self.warnings.append(f"{self.name}: line {number} was cut in the middle and is skipped")
                    return
                if self.count:
                    raise self._no_message("no message in JSON", number) from None
                yield from self._of_document(line, file)
                return
            yield from self._of_value(value, number)

    def _of_document(self, begun: bytes, file: io.BufferedReader[Any]) -> Iterator[Delivery]:
        """Read JSON that is laid out over several lines: one value, or several behind each other."""
        whole = begun + file.read(LINE_BYTES + 1 - len(begun))
        if len(whole) > LINE_BYTES:
            raise ConfigError(
                f"{self.name} is not lines of JSON, and has more than {LINE_BYTES >> 20} MiB: not read on"
            )
        text, _ = read_text(whole) or ("", "")
        text = text.strip()
        decode, at = json.JSONDecoder().raw_decode, 0
        while at < len(text) and text[0] in "{[":
            try:
                _, end = decode(text, at)
                value = msgspec.json.decode(text[at:end])  # which keeps long numbers as they are
            except (ValueError, RecursionError):
                if not self.count:
                    break
                self.warnings.append(f"{self.name}: the rest is no JSON and is skipped, from {text[at : at + 40]!r} on")
                return
            yield from self._of_value(value)
            at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        if not self.count and not self._said:
            kind = kind_of_file(whole[:_HEAD_BYTES])
            raise ConfigError(f"{self.name} is no capture: it is {kind}", hint=_RABBITIO if kind == TAR else None)

    def _of_value(self, value: Any, number: int | None = None) -> Iterator[Delivery]:
        """Read a message, or an array of them."""
        if isinstance(value, list):
            self._said = "" if value else "an empty JSON array"
        for each in value if isinstance(value, list) else [value]:
            try:
                made = message_of(each)
            except InvalidMessage as error:
                raise self._no_message(str(error), number, error.hint, error.facts) from None
            lost = f"{self.name}: {LOST_TYPES}"
            if made.via == "get" and lost not in self.warnings:
                self.warnings.append(lost)
            yield made

    def _no_message(
        self, said: str, number: int | None, hint: str | None = None, facts: dict[str, Any] | None = None
    ) -> InvalidMessage:
        known = {"field": "line", "expected": "a message", "found": "", **(facts or {}), "line": number}
        where = f"{self.name}, line {number}" if number is not None else self.name
        return InvalidMessage(f"{where}: {said}", hint=hint, **known)

    def _line(self, file: io.BufferedReader[Any], number: int) -> bytes:
        line = file.readline(LINE_BYTES + 1)
        if len(line) > LINE_BYTES:
            raise self._no_message(
                f"it is longer than {LINE_BYTES >> 20} MiB, which no message is: not read on", number
            )
        return line


class _Unpacked(io.RawIOBase):
    """What zstd frames, one behind the other, have in them; the last may be cut."""

    def __init__(self, packed: io.BufferedReader[Any]) -> None:
        self.unfinished = False
        """Whether the frame that is being read has not ended."""
        self._packed = packed
        self._frame = _frame()
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
                self._frame = _frame()
            self._made = memoryview(self._frame.decompress(data))
            self._rest = self._frame.unused_data
            self.unfinished = not self._frame.eof
        count = min(len(buffer), len(self._made))
        buffer[:count], self._made = self._made[:count], self._made[count:]
        return count


def _frame() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
