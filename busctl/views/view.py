"""View: one declaration that gives the table of a command, the table of a screen, its sort order and its colours."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from busctl_lib.errors import ConfigError

T = TypeVar("T")
SortValue = str | float | None


class Tone(enum.Enum):
    """What a colour would say; a word or a mark says it as well."""

    NORMAL = "normal"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    MUTED = "muted"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place of a table. The text is plain, safe for a terminal, without markup."""

    text: str
    tone: Tone = Tone.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """One column."""

    name: str
    """As typed behind --columns and --sort."""
    title: str
    value: Callable[[T], SortValue]
    """What to sort by; None (not known) comes last in either direction."""
    text: Callable[[T], str]
    """What to show, already safe."""
    align: Literal["left", "right"] = "left"
    tone: Callable[[T], Tone] | None = None
    wide: bool = False
    """Shown only where there is room, or when asked for."""
    rare: bool = False
    """Among the wide ones: shown also where a row has something there."""

    def cell(self, info: T) -> Cell:
        """Show one info."""
        return Cell(self.text(info), self.tone(info) if self.tone is not None else Tone.NORMAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Generic[T]):
    """How one type is shown."""

    noun: str
    """The plural, as the command is called."""
    columns: tuple[Column[T], ...]
    sort: str
    """The column to sort by when none is asked for; a leading "-" turns it around."""

    def column(self, name: str) -> Column[T]:
        """Find a column by its name.

        Raises:
            ConfigError: there is none; the hint names the nearest.
        """
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        raise ConfigError(f"{self.noun} have no column {name!r}", hint=hint)

    def select(self, names: Sequence[str] | None = None, *, wide: bool = False) -> tuple[Column[T], ...]:
        """Choose columns: the named ones, else the usual ones, else (wide) all."""
        if names:
            return tuple(self.column(name) for name in names)
        return tuple(column for column in self.columns if wide or not column.wide)

    def filled(self, columns: Sequence[Column[T]], infos: Sequence[T]) -> tuple[Column[T], ...]:
        """These columns, and in their places the rare ones in which some row has something."""
        shown = list(columns)
        for place, column in enumerate(self.columns):
            if column.rare and column not in shown and any(column.value(info) for info in infos):
                before = [shown.index(each) for each in self.columns[:place] if each in shown]
                shown.insert(max(before, default=-1) + 1, column)
        return tuple(shown)

    def row(self, info: T, columns: Sequence[Column[T]] | None = None) -> list[Cell]:
        """Show one info as the cells of a row."""
        return [column.cell(info) for column in (self.select() if columns is None else columns)]

    def sorted(self, infos: Iterable[T], by: str | None = None) -> list[T]:
        """Sort by a column: "messages", or "-messages" for the largest first. Stable; what is not known comes last."""
        wanted = by or self.sort
        column = self.column(wanted.removeprefix("-"))
        rows = infos if isinstance(infos, list) else list(infos)
        values: list[Any] = list(map(column.value, rows))
        if isinstance(next((value for value in values if value is not None), None), str):
            values = [None if value is None else value.casefold() for value in values]
        # By places, not by pairs: of ten thousand rows that change every beat this is what the screen can afford.
        known = [place for place, value in enumerate(values) if value is not None]
        known.sort(key=values.__getitem__, reverse=wanted.startswith("-"))
        ordered = [rows[place] for place in known]
        if len(ordered) < len(rows):
            ordered += [row for row, value in zip(rows, values, strict=True) if value is None]
        return ordered

    def json(self, info: T) -> Any:
        """Give one info as JSON values: the API's names, a stable contract, absent is absent."""
        return msgspec.to_builtins(info)

    def json_bytes(self, info: T) -> bytes:
        """The same as one line of JSON text."""
        return msgspec.json.encode(info if type(self).json is View.json else self.json(info))
