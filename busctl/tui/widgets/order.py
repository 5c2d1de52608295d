"""Order: by which column the rows of a table stand, and which way around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from busctl.views.view import View

T = TypeVar("T")


class Order(Generic[T]):
    """Sorts rows. Equal ones stand in the view's own order: they must not trade places from beat to beat.

    Args:
        view: What a row is.
        by: A column's name, with a "-" in front for the largest first; None leaves rows in the order they are given.
    """

    def __init__(self, view: View[T], by: str | None) -> None:
        self._view = view
        self.by = by
        self._rows: list[T] = []
        """In the view's own order, else as given: what another order begins with."""

    @property
    def column(self) -> str:
        """The column's name; empty where there is none."""
        return (self.by or "").removeprefix("-")

    @property
    def sign(self) -> str:
        """The way around, as a mark behind the column's title."""
        return "▾" if (self.by or "").startswith("-") else "▴"

    @property
    def label(self) -> str:
        """The order in words."""
        return self._view.column(self.column).title.lower() + self.sign if self.column else ""

    def put(self, rows: Sequence[T], *, ordered: bool) -> list[T]:
        """Sort other rows; `ordered` ones come in the view's own order."""
        self._rows = list(rows) if ordered or self.by is None else self._view.sorted(rows)
        return self.again()

    def again(self) -> list[T]:
        """Sort the same rows."""
        return self._rows if self.by in (None, self._view.sort) else self._view.sorted(self._rows, self.by)

    def choose(self, name: str) -> None:
        """Sort by a column: numbers largest first, text from A to Z; a second time turns it around."""
        column = self._view.column(name)
        first = f"-{name}" if column.align == "right" else name
        turned = name if first.startswith("-") else f"-{name}"
        self.by = turned if self.by == first else first

    def choose_next(self, names: Sequence[str]) -> None:
        """Sort by the column behind this one."""
        index = names.index(self.column) + 1 if self.column in names else 0
        self.by = None
        self.choose(names[index % len(names)])

    def reverse(self) -> None:
        """Turn the order around."""
        if self.by is not None:
            self.by = self.column if self.by.startswith("-") else f"-{self.by}"
