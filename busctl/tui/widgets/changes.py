"""What changed in a table a moment ago: which numbers rose and which fell."""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from busctl.views.view import Column

T = TypeVar("T")
SHOWN_S = 1.5
"""How long a change is marked."""
RISEN, FALLEN = "▴", "▾"


class Changes(Generic[T]):
    """Remembers, for the rows in sight, which of their numbers moved with the last beat."""

    def __init__(self) -> None:
        self._signs: dict[Hashable, dict[str, str]] = {}
        self._until = 0.0

    def note(
        self, before: Mapping[Hashable, T], after: Iterable[tuple[Hashable, T]], columns: Sequence[Column[T]]
    ) -> bool:
        """Compare rows with what they were; whether any number moved. Other values of the same beat add to it."""
        found: dict[Hashable, dict[str, str]] = {}
        for key, row in after:
            was = before.get(key)
            if was is not None and was is not row and (signs := _signs(was, row, columns)):
                found[key] = signs
        if found or time.monotonic() >= self._until:
            self._signs, self._until = found, time.monotonic() + SHOWN_S
        return bool(found)

    @property
    def keys(self) -> Collection[Hashable]:
        """The rows that had a mark last."""
        return self._signs.keys()

    def sign(self, key: Hashable, column: str) -> str:
        """The mark of a cell: risen, fallen, or a blank."""
        if not self._signs:
            return " "
        if time.monotonic() >= self._until:
            return " "
        return self._signs.get(key, {}).get(column, " ")


def _signs(was: T, row: T, columns: Sequence[Column[T]]) -> dict[str, str]:
    signs = {}
    for column in columns:
        old, new = column.value(was), column.value(row)
        # What is shown the same did not change for the eye.
        if isinstance(old, int | float) and isinstance(new, int | float) and column.text(was) != column.text(row):
            signs[column.name] = RISEN if new > old else FALLEN
    return signs
