"""LiveTable: a table of any length that changes every beat. Only the rows on the screen are ever drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable, Sequence
from operator import indexOf
from typing import ClassVar, Generic, TypeAlias, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.strip import Strip

from busctl.tui.widgets import table_events
from busctl.tui.widgets.changes import SHOWN_S, Changes
from busctl.tui.widgets.marks import Marks
from busctl.tui.widgets.order import Order
from busctl.tui.widgets.rows import Rows, strip_of
from busctl.tui.widgets.slots import GAP, Lane, Slot, fit, share_out
from busctl.views.view import Tone, View

T = TypeVar("T")
MEASURED_ROWS = 150
"""Of longer tables only so many rows say at first how wide a column must be, then those in sight."""


class LiveTable(Rows, Generic[T]):
    """Rows of a View. The cursor stays on its row, and the row on its line, when others move.

    Args:
        view: What a row is, and how rows are sorted.
        slots: The columns, in order.
        key: What tells one row from another.
        sort: As of `View.sorted`; None leaves the rows in the order they are given.
        empty: Shown when there are no rows.
        opens: Whether enter on a row leads anywhere.
        marks: Whether rows can be marked.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", id="table.open", tooltip="Open the row under the cursor."),
        Binding("home,g", "jump(0)", "first row", id="table.first", show=False),
        Binding("end,G", "jump(-1)", "last row", id="table.last", show=False),
        Binding("space", "mark", "mark", id="table.mark", tooltip="Mark the row, or take its mark away."),
        Binding(
            "V,ctrl+@", "mark_range", "mark to here", id="table.mark-range", show=False, tooltip="Mark up to this row."
        ),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "live-table--header",
        "live-table--sorted",
        "live-table--cursor",
        "live-table--good",
        "live-table--warn",
        "live-table--bad",
        "live-table--muted",
        "live-table--trend",
        "live-table--mark",
    }
    DEFAULT_CSS = """
    LiveTable {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        background: $background;
        & > .live-table--header { color: $muted; text-style: bold; }
        & > .live-table--sorted { color: $primary; text-style: bold; }
        & > .live-table--cursor { background: $panel; }
        & > .live-table--good { color: $success; }
        & > .live-table--warn { color: $warning; }
        & > .live-table--bad { color: $error; }
        & > .live-table--muted { color: $muted; }
        & > .live-table--trend { color: $primary; }
        & > .live-table--mark { color: $accent; text-style: bold; }
        &:focus > .live-table--cursor { background: $row-cursor; text-style: $row-cursor-style; }
    }
    """

    Opened: TypeAlias = table_events.Opened
    Scrolled: TypeAlias = table_events.Scrolled
    Sorted: TypeAlias = table_events.Sorted
    Marked: TypeAlias = table_events.Marked
    Moved: TypeAlias = table_events.Moved

    def __init__(
        self,
        view: View[T],
        slots: Sequence[Slot[T]],
        key: Callable[[T], Hashable],
        *,
        sort: str | None = None,
        empty: str = "",
        opens: bool = True,
        marks: bool = False,
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        super().__init__(id=id)
        self._view = view
        self._slots = tuple(slots)
        self._key = key
        self._order = Order(view, sort)
        self._opens = opens
        self._can_mark = marks
        self._marks = Marks()
        self._changes: Changes[T] = Changes()
        self._rows: list[T] = []
        self._longest: dict[str, int] = {}
        self._lanes: list[Lane[T]] = []
        self._used = 0
        """Cells of a line that columns and the gaps before them fill."""
        self._visible: tuple[Hashable, ...] = ()
        self.empty = empty

    # --- what the screen asks and tells

    @property
    def rows(self) -> Sequence[T]:
        """The rows in the order shown."""
        return self._rows

    @property
    def row(self) -> T | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    @property
    def chosen(self) -> Sequence[T]:
        """What a verb is meant for: the marked rows, else the one under the cursor."""
        if self._marks:
            return [row for row in self._rows if self._key(row) in self._marks]
        return [self.row] if self.row is not None else []

    @property
    def marked(self) -> int:
        """How many rows are marked."""
        return len(self._marks)

    def clear_marks(self) -> None:
        """Take all marks away."""
        self._marks.clear()
        self._show_marks()

    @property
    def sort(self) -> str | None:
        """The order: a column's name, with a "-" in front for the largest first."""
        return self._order.by

    @property
    def sort_label(self) -> str:
        """The order in words."""
        return self._order.label

    @property
    def visible_rows(self) -> Sequence[T]:
        """The rows on the screen."""
        top = self.scroll_offset.y
        return self._rows[top : top + max(self.scrollable_content_region.height - 1, 0)]

    def set_slots(self, slots: Sequence[Slot[T]]) -> None:
        """Show other columns."""
        self._slots = tuple(slots)
        self._longest.clear()
        self._measure()
        self._lay_out()
        self.refresh()

    def set_rows(self, rows: Sequence[T], *, narrowed: bool = False, ordered: bool = False) -> None:
        """Show these rows. The cursor stays on the row it was on, at the line it was on.

        Args:
            rows: All of them.
            narrowed: Their user chose them anew: where the cursor's row is not among them, it goes to the first.
            ordered: They come in the view's own order, which spares the screen to put them there.
        """
        self._show(self._order.put(rows, ordered=ordered), narrowed=narrowed)

    def _show(self, rows: list[T], *, narrowed: bool = False) -> None:
        before, line = self.row, self._cursor - self.scroll_offset.y
        in_sight = {self._key(row): row for row in self.visible_rows}
        self._rows = rows
        if before is not None:
            try:
                self._cursor = indexOf(map(self._key, self._rows), self._key(before))
            except ValueError:  # it is gone
                self._cursor = 0 if narrowed else self._cursor
        if self._marks:
            self._marks.keep(map(self._key, self._rows))
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        self._measure()
        self._lay_out()
        self.virtual_size = Size(self.line_width, len(self._rows) + 1)
        if self.scroll_offset.y and 0 <= line < self.scrollable_content_region.height - 1:
            self.scroll_to(y=self._cursor - line, animate=False, immediate=True)
        self._note_changes(in_sight)
        self.refresh()
        self._tell_visible()

    def _note_changes(self, in_sight: dict[Hashable, T]) -> None:
        """Mark for a moment what moved in the rows that were seen and still are."""
        numbers = [lane.slot.column for lane in self._lanes if lane.slot.column.align == "right"]
        same = [(key, row) for row in self.visible_rows if (key := self._key(row)) in in_sight]
        if numbers and self._changes.note(in_sight, same, numbers):
            self.set_timer(SHOWN_S + 0.05, self._draw_unmarked)

    def _draw_unmarked(self) -> None:
        changed = self._changes.keys
        self.draw_lines(line for line, row in enumerate(self.visible_rows, 1) if self._key(row) in changed)

    def sort_by(self, name: str) -> None:
        """Sort by a column: numbers largest first, text from A to Z; a second time turns it around."""
        self._order.choose(name)
        self._sort_again()

    def sort_by_next(self) -> None:
        """Sort by the next column shown."""
        if self._lanes:
            self._order.choose_next([lane.slot.column.name for lane in self._lanes])
            self._sort_again()

    def sort_reversed(self) -> None:
        """Turn the order around."""
        self._order.reverse()
        self._sort_again()

    def _sort_again(self) -> None:
        self._show(self._order.again())
        self.post_message(self.Sorted(self))

    # --- room

    def _measure(self) -> None:
        """Widths only ever grow while the table is shown: a number that shrinks must not move its neighbours."""
        long = len(self._rows) > MEASURED_ROWS
        measured = self.visible_rows if long and self._longest else self._rows[:MEASURED_ROWS]
        for slot in self._slots:
            if slot.most and slot.draw is None:
                longest = max((cell_len(slot.column.text(row)) for row in measured), default=0)
                name = slot.column.name
                self._longest[name] = max(longest, self._longest.get(name, 0))

    def _lay_out(self) -> None:
        self._lanes = share_out(self._slots, self.line_width - 1, self._longest)
        self._used = 1 + sum(lane.width + GAP for lane in self._lanes) - (GAP if self._lanes else 0)

    def on_resize(self) -> None:
        """Share out the width anew."""
        self._lay_out()
        self.virtual_size = Size(self.line_width, len(self._rows) + 1)
        self._keep_cursor_in_sight()
        self.refresh()
        self._tell_visible()

    # --- drawing

    def render_line(self, y: int) -> Strip:
        """Draw one line: the header, or the row that is scrolled there."""
        width, base = self._width, self._base
        if y == 0:
            return self._header(width, base)
        index = y - 1 + self.scroll_offset.y
        if index < len(self._rows):
            return self._row(index, width, base)
        if not self._rows and y >= 2 and (line := self._empty_line(y - 2, width - 3)):
            style = base + self.get_component_rich_style("live-table--muted", partial=True)
            return Strip([Segment(set_cell_size(f"  {line}", width), style)], width)
        return Strip.blank(width, base)

    def _empty_line(self, number: int, width: int) -> str:
        """A line of what stands there instead of rows."""
        lines = textwrap.wrap(self.empty, max(width, 1))
        return lines[number] if number < len(lines) else ""

    def _header(self, width: int, base: Style) -> Strip:
        plain = base + self.get_component_rich_style("live-table--header", partial=True)
        sorted_style = base + self.get_component_rich_style("live-table--sorted", partial=True)
        parts = [(" ", base)]
        for place, lane in enumerate(self._lanes):
            column = lane.slot.column
            is_sorted = column.name == self._order.column
            title = column.title + (self._order.sign if is_sorted else "")
            if place:
                parts.append((" " * GAP, base))
            parts.append((fit(title, lane.width, column.align), sorted_style if is_sorted else plain))
        return strip_of(parts, self._used, width, base)

    def _row(self, index: int, width: int, base: Style) -> Strip:
        row = self._rows[index]
        if index == self._cursor:
            base += self.get_component_rich_style("live-table--cursor", partial=True)
        key = self._key(row)
        cursor = ("▌" if index == self._cursor else " ", "sorted")
        mark, marked_as = ("✓", "mark") if key in self._marks else cursor
        parts = [(mark, base if mark == " " else base + self._tone_style(marked_as))]
        for place, lane in enumerate(self._lanes):
            slot = lane.slot
            if place:
                sign = self._changes.sign(key, slot.column.name)
                parts += [(" " * (GAP - 1), base), (sign, base if sign == " " else base + self._tone_style("mark"))]
            if slot.draw is not None:
                style = base + self._tone_style("trend")
                parts.append((fit(slot.draw(row, lane.width), lane.width, slot.column.align), style))
                continue
            cell = slot.column.cell(row)
            style = base if cell.tone is Tone.NORMAL else base + self._tone_style(cell.tone.value)
            parts.append((fit(cell.text, lane.width, slot.column.align), style))
        return strip_of(parts, self._used, width, base)

    def _tone_style(self, name: str) -> Style:
        return self.get_component_rich_style(f"live-table--{name}", partial=True)

    # --- moving

    def _tell_visible(self) -> None:
        visible = tuple(self._key(row) for row in self.visible_rows)
        if visible != self._visible:
            self._visible = visible
            self.post_message(self.Scrolled(self))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell which rows came into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._tell_visible()

    @property
    def _count(self) -> int:
        return len(self._rows)

    def _move_to(self, index: int) -> None:
        before = self._cursor
        super()._move_to(index)
        if self._cursor != before:
            self.post_message(self.Moved(self))

    def action_jump(self, index: int) -> None:
        """Move the cursor to a row; -1 is the last."""
        self._move_to(index if index >= 0 else len(self._rows) - 1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter is no key where it leads nowhere, nor space where nothing can be done with many rows."""
        if action in ("mark", "mark_range"):
            return self._can_mark
        return self._opens if action == "open" else super().check_action(action, parameters)

    def action_mark(self) -> None:
        """Mark the row under the cursor, and go on to the next."""
        if (row := self.row) is not None:
            self._marks.toggle(self._key(row))
            self._move_to(self._cursor + 1)
            self._show_marks()

    def action_mark_range(self) -> None:
        """Mark all rows from the last mark to the cursor."""
        if self._rows:
            self._marks.mark_range([self._key(row) for row in self._rows], self._cursor)
            self._show_marks()

    def _show_marks(self) -> None:
        self.refresh()
        self.post_message(self.Marked(self))

    def action_open(self) -> None:
        """Open the row under the cursor."""
        if (row := self.row) is not None:
            self.post_message(self.Opened(self, row))

    def on_click(self, event: events.Click) -> None:
        """Header: sort. Row: put the cursor there; when it is there already: open."""
        if event.y == 0:
            self._sort_at(event.x)
            return
        index = event.y - 1 + self.scroll_offset.y
        if index >= len(self._rows):
            return
        if index == self._cursor and event.chain > 1 and self._opens:
            self.action_open()
        else:
            self._move_to(index)

    def _sort_at(self, x: int) -> None:
        left = 1
        for lane in self._lanes:
            if left <= x < left + lane.width + GAP and self.sort is not None:
                self.sort_by(lane.slot.column.name)
            left += lane.width + GAP
