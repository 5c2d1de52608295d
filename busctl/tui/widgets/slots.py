"""Slots: which columns of a table fit on a line, and how wide each may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.cells import cell_len, set_cell_size

from busctl.views.view import Column

T = TypeVar("T")
GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot(Generic[T]):
    """A column's place in a table."""

    column: Column[T]
    least: int
    """Cells it must have to be shown."""
    most: int = 0
    """Cells it may grow to: up to its longest text, or (with `draw`) as far as there is room."""
    rank: int = 0
    """Who stays when room is short: the lowest."""
    draw: Callable[[T, int], str] | None = None
    """Text for so many cells, instead of the column's own."""


@dataclass(frozen=True, slots=True)
class Lane(Generic[T]):
    """A slot with the width it got."""

    slot: Slot[T]
    width: int


def share_out(slots: Sequence[Slot[T]], room: int, longest: Mapping[str, int]) -> list[Lane[T]]:
    """Share out a line: columns by rank while there is room for them; what is left lets the first ones grow.

    Args:
        slots: In the order shown.
        room: Cells of the line.
        longest: The longest text of each column that may grow.
    """
    chosen: list[Slot[T]] = []
    for slot in sorted(slots, key=lambda slot: slot.rank):
        if (needs := slot.least + (GAP if chosen else 0)) <= room:
            chosen.append(slot)
            room -= needs
    widths = {slot.column.name: slot.least for slot in chosen}
    for slot in chosen:
        wanted = slot.most if slot.draw is not None else min(slot.most, longest.get(slot.column.name, 0))
        more = max(0, min(wanted - slot.least, room))
        widths[slot.column.name] += more
        room -= more
    return [Lane(slot, widths[slot.column.name]) for slot in slots if slot in chosen]


def fit(text: str, width: int, align: str) -> str:
    """Bring a text to a width: a cut is taken from its middle, since names differ at both ends."""
    length = cell_len(text)
    if length > width:
        if width < 6:
            return set_cell_size(text, width - 1) + "…" if width > 0 else ""
        tail = (width - 1) // 3
        end = text[-tail:]
        return set_cell_size(set_cell_size(text, width - 1 - cell_len(end)) + "…" + end, width)
    return " " * (width - length) + text if align == "right" else text + " " * (width - length)
