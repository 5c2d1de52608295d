"""What a command prints: the only writer of stdout.

Lists are a table, JSON, JSON lines or TSV. A pipe that its reader closed ends the command quietly. Where stdout cannot
carry a character, people get something in its place, and programs an escape that means the same.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import re
import select
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from busctl.cli.exits import PipeClosed, point_stdout_nowhere
from busctl.views import plain
from busctl.views.formats import cell_width, safe_text
from busctl.views.view import Cell, Column, Tone, View
from busctl_lib.errors import BusError

T = TypeVar("T")

_COLORS = {Tone.GOOD: "32", Tone.WARN: "33", Tone.BAD: "31;1", Tone.MUTED: "2"}
_GAP = "  "
_LEAST_WIDTH = 12
"""A column is not cut below this many cells."""
_NOT_ASCII = re.compile("[^\x00-\x7f]")


class Format(enum.StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    TSV = "tsv"


def is_terminal() -> bool:
    """Whether a person is looking at stdout."""
    return sys.stdout.isatty()


def colored() -> bool:
    """Whether to use colours: on a terminal, unless NO_COLOR or TERM=dumb says otherwise."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _carries_all() -> bool:
    return _encoding().lower().replace("_", "-") in ("utf-8", "utf8")


def write(text: str) -> None:
    """Print text; foreign parts of it must be safe already.

    Raises:
        PipeClosed: nobody reads any more.
        BusError: it cannot be written (a full disk).
    """
    with _told():
        sys.stdout.write(text)
        sys.stdout.flush()


def write_text(data: bytes) -> None:
    """Print text that is encoded already. Raises as `write` does."""
    if _carries_all():
        write_bytes(data)
    else:
        write(data.decode())


def write_json_text(data: bytes) -> None:
    r"""Print JSON that is formed already; with `\u` escapes where stdout is not UTF-8. Raises as `write` does."""
    if _carries_all() or data.isascii():
        write_bytes(data)
    else:
        write(_NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], data.decode()))


def write_bytes(data: bytes) -> None:
    """Print bytes as they are, whatever stdout carries.

    Raises:
        PipeClosed: nobody reads any more.
        BusError: it cannot be written (a full disk).
    """
    with _told():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say what hinders writing; what is still in the buffer is dropped."""
    try:
        yield
    except BrokenPipeError as error:
        point_stdout_nowhere()
        raise PipeClosed from error
    except OSError as error:
        point_stdout_nowhere()
        raise BusError(f"standard output cannot be written: {error.strerror or error}") from error


def write_line(text: str = "") -> None:
    """Print one line."""
    write(text + "\n")


def write_json(value: object) -> None:
    """Print one JSON value, indented."""
    write_json_text(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_jsonl(value: object) -> None:
    """Print one JSON value on one line."""
    write_json_text(msgspec.json.encode(value) + b"\n")


def write_value(value: object, form: Format | None) -> None:
    """Print one JSON value: on one line for Format.JSONL, else indented."""
    (write_jsonl if form is Format.JSONL else write_json)(value)


def reader_gone() -> bool:
    """Tell, without writing, whether the reader of stdout closed its end; for commands that may wait long."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def write_list(view: View[T], infos: Sequence[T], form: Format, columns: Sequence[Column[T]] | None = None) -> None:
    """Print infos in the order given; columns are for table and TSV, JSON always has all that is known."""
    if form is Format.JSON:
        write_json([msgspec.Raw(view.json_bytes(info)) for info in infos])
    elif form is Format.JSONL:
        write_json_text(b"".join(view.json_bytes(info) + b"\n" for info in infos))
    else:
        chosen = view.select() if columns is None else tuple(columns)
        write(tsv(chosen, infos) if form is Format.TSV else table(chosen, infos))


def tsv(columns: Sequence[Column[T]], infos: Iterable[T]) -> str:
    """Lay infos out as tab-separated values under the columns' names: numbers in full, empty when not known."""
    lines = ["\t".join(column.name for column in columns)]
    lines += ["\t".join(_tsv_value(column.value(info)) for column in columns) for info in infos]
    return "\n".join(lines) + "\n"


def _tsv_value(value: Any) -> str:
    return "" if value is None else tsv_text(str(value))


def tsv_text(text: str) -> str:
    """A value of a TSV: what stdout cannot carry is escaped, for a name must never look like another's."""
    return plain.escaped(safe_text(text), _encoding())


def shown(text: str) -> str:
    """A safe text as stdout will show it, which may take another room."""
    return plain.plain(text, _encoding())


def table(columns: Sequence[Column[T]], infos: Iterable[T]) -> str:
    """Lay infos out as a table; on a terminal in colours and cut to its width, elsewhere plain and whole."""
    width = shutil.get_terminal_size().columns if is_terminal() else None
    rows = [[_shown_cell(column.cell(info)) for column in columns] for info in infos]
    widths = [max(map(cell_width, texts)) for texts in zip(*_texts(columns, rows), strict=True)]
    if width is not None:
        _fit(widths, columns, width)
    paint = _paint if colored() else _plain
    heads = [Cell(column.title, Tone.MUTED) for column in columns]
    return "".join(_row(row, columns, widths, paint) + "\n" for row in [heads, *rows])


def _shown_cell(cell: Cell) -> Cell:
    return cell if cell.text.isascii() or _carries_all() else Cell(shown(cell.text), cell.tone)


def _texts(columns: Sequence[Column[T]], rows: Iterable[Sequence[Cell]]) -> list[list[str]]:
    return [[column.title for column in columns], *([cell.text for cell in row] for row in rows)]


def _fit(widths: list[int], columns: Sequence[Column[T]], width: int) -> None:
    """Narrow the widest text columns until the row fits or nothing more can be given."""
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        cuttable = [index for index, column in enumerate(columns) if column.align == "left"]
        widest = max(cuttable, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _LEAST_WIDTH:
            return
        widths[widest] -= 1


def _row(
    cells: Sequence[Cell], columns: Sequence[Column[T]], widths: Sequence[int], paint: Callable[[str, Tone], str]
) -> str:
    parts: list[str] = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = _cut_inside(cell.text, width)
        room = " " * (width - cell_width(text))
        shown = paint(text, cell.tone)
        parts.append(room + shown if column.align == "right" else shown + room)
    return _GAP.join(parts).rstrip()


def cut(text: str, width: int) -> str:
    """Give as much of a text as fits."""
    if cell_width(text) <= width:
        return text
    mark = shown("…")
    room = max(width - len(mark), 0)
    text = text[:room]
    while cell_width(text) > room:
        text = text[:-1]
    return text + mark


def _cut_inside(text: str, width: int) -> str:
    """Cut a text in its middle: names and causes differ at both ends."""
    if cell_width(text) <= width:
        return text
    mark = shown("…")
    room = width - len(mark)
    tail = text[-(room // 3) :]
    while cell_width(tail) > room // 3:
        tail = tail[1:]
    while cell_width(text) > room - cell_width(tail):
        text = text[:-1]
    return f"{text}{mark}{tail}"


def _paint(text: str, tone: Tone) -> str:
    color = _COLORS.get(tone)
    return f"\x1b[{color}m{text}\x1b[0m" if color and text else text


def _plain(text: str, tone: Tone) -> str:
    return text


def paint(text: str, tone: Tone) -> str:
    """Colour safe text by its tone where colours are wanted."""
    return _paint(text, tone) if colored() else text


def clear_screen() -> None:
    """On a terminal, begin at its top with nothing on it."""
    if is_terminal():
        write("\x1b[H\x1b[2J\x1b[3J")
