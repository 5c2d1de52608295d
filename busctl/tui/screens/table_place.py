"""TablePlace: a place that is one table: sorted, narrowed, marked, described."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from busctl.tui import sieve
from busctl.tui.feed import Feed
from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import Describe, Sifted
from busctl.tui.screens.place import Place
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views.formats import safe_text
from busctl.views.view import View
from busctl_lib.questions import Question

T = TypeVar("T")


class TablePlace(Place, Generic[T]):
    """The rows of one view.

    Args:
        feed: The bus.
        view: What a row is.
        filtered: What to narrow it to at first.
        of: What it belongs to, for the breadcrumbs, safe to show.
        only: Which rows belong to it.
    """

    FILTERS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort_next", "sort", id="list.sort", tooltip="Sort by the next column."),
        Binding("S", "sort_reverse", "reverse", id="list.reverse", show=False, tooltip="Turn the order around."),
        Binding("w", "wide", "wide", id="list.wide", tooltip="More columns, or the usual ones."),
        Binding("d", "describe", "describe", id="list.describe", tooltip="All that is known about the row."),
    ]

    def __init__(
        self,
        feed: Feed,
        view: View[T],
        filtered: Filter = EVERYTHING,
        *,
        of: str = "",
        only: Callable[[T], bool] | None = None,
    ) -> None:
        super().__init__(feed)
        self._of = of
        self._only = only
        self.filter = filtered
        self.view = view
        self._wide = False
        self._sieve: sieve.Sieve[T] = sieve.Sieve(self.label, self.ask, self._tell_sifted)
        self._passed: Sequence[T] | None = None
        """What passed a filter that runs elsewhere; None: it was not told yet."""
        self._narrowed = False
        """Whether the filter is another one since rows were shown last."""

    # --- for each

    ordered = False
    """Whether the rows come in the view's own order."""

    def slots(self, *, wide: bool) -> list[Slot[T]]:
        """The columns."""
        raise NotImplementedError

    def key(self, row: T) -> Hashable:
        """What tells one row from another."""
        raise NotImplementedError

    def label(self, row: T) -> str:
        """What `/text` looks at."""
        raise NotImplementedError

    def known_rows(self) -> Sequence[T] | None:
        """All rows; None until they are known."""
        raise NotImplementedError

    @property
    def empty(self) -> str:
        """What stands there when there are no rows at all."""
        return f"No {self.view.noun} here."

    @property
    def counted_as(self) -> str:
        """What the rows are, in the plural."""
        return self.view.noun

    @property
    def first_sort(self) -> str | None:
        """The order at first; None: as they come, for good."""
        return self.view.sort

    @property
    def opens(self) -> bool:
        """Whether enter leads somewhere."""
        return True

    @property
    def marks(self) -> bool:
        """Whether there is a verb for many rows."""
        return False

    # --- shared

    @property
    def crumb(self) -> str:
        """The noun, and what it belongs to."""
        return f"{self.view.noun} {self._of}".strip()

    @property
    def command_line(self) -> str:
        """The same as a command."""
        glob = [self.filter.text] if self.filter and self.filter.glob and not self.filter.inverse else []
        return self.feed.command(self.view.noun, *glob)

    def compose_place(self) -> ComposeResult:
        """One table."""
        yield LiveTable(
            self.view,
            self.slots(wide=False),
            key=self.key,
            sort=self.first_sort,
            empty="asking the broker …",
            marks=self.marks,
            opens=self.opens,
            id=f"{self.view.noun.replace(' ', '-')}-table",
        )

    def on_mount(self) -> None:
        """Begin with the filter it came with."""
        self._sieve.choose(self.filter if self.filter.guarded else None)

    def on_unmount(self) -> None:
        """End what runs elsewhere."""
        self._sieve.close()

    @property
    def table(self) -> LiveTable[T]:
        """The table."""
        return self.query_one(LiveTable)

    def set_filter(self, chosen: Filter) -> None:
        """Narrow what is shown."""
        if chosen != self.filter:
            self._narrowed = True
            self._sieve.choose(chosen if chosen.guarded else None)
        super().set_filter(chosen)

    def show_filtered(self) -> None:
        """Show the rows that pass; a filter that runs elsewhere tells later."""
        rows = self.known_rows()
        if rows is None:
            return
        if self.filter.guarded:
            self._sieve.put(rows, instead=True)
            return
        passing = self.filter
        self._show(rows if not passing else [row for row in rows if passing.matches(self.label(row))])

    def _show(self, rows: Sequence[T]) -> None:
        known = self.known_rows()
        self.table.empty = f"No {self.view.noun} match." if self.filter and known else self.empty
        self.table.set_rows(rows, narrowed=self._narrowed, ordered=self.ordered)
        self._narrowed = False
        self._say_counts(len(known or ()))

    @on(Sifted)
    def _take_sifted(self, message: Sifted) -> None:
        result = message.result
        if result.filter != self.filter:
            return
        if result.stopped:
            self.say_facts(f"the filter {safe_text(result.trouble)}")
            return
        self._show(result.passed)
        if result.told and not result.passed:
            self.say_facts(safe_text("; ".join(result.told), 60))

    def _tell_sifted(self, result: sieve.Sifted[T]) -> None:
        """Runs on the sieve's thread."""
        self.post_message(Sifted(result))

    def ask(self, row: T) -> Question:
        """Put a row to jq."""
        return Question(msgspec.json.encode(self.view.json(row)))

    def belonging(self, rows: Sequence[T]) -> Sequence[T]:
        """Give the rows that belong here."""
        only = self._only
        return rows if only is None else [row for row in rows if only(row)]

    def _say_counts(self, total: int) -> None:
        shown = len(self.table.rows)
        noun = self.counted_as if total != 1 else self.counted_as.removesuffix("s")
        counted = f"{shown:,} of {total:,}" if shown != total else f"{total:,} {noun}"
        marked = f"{self.table.marked:,} marked  " if self.table.marked else ""
        by = f"by {self.table.sort_label}  " if self.table.sort is not None else ""
        self.say_facts(f"{marked}{by}{counted}")

    @on(LiveTable.Sorted)
    @on(LiveTable.Marked)
    def _order_changed(self) -> None:
        self._say_counts(len(self.known_rows() or ()))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape takes the marks away first; what stands in its own order is not sorted."""
        if action in ("sort", "sort_next", "sort_reverse") and self.first_sort is None:
            return False
        if action == "wide":
            return len(self.slots(wide=True)) > len(self.slots(wide=False))
        if action == "up" and self.is_mounted and self.query(LiveTable) and self.table.marked:
            return True
        return super().check_action(action, parameters)

    def action_up(self) -> None:
        """Take the marks away, else clear the filter, else go up."""
        if self.table.marked:
            self.table.clear_marks()
        else:
            super().action_up()

    def action_sort(self, name: str) -> None:
        """Sort by a column."""
        self.table.sort_by(name)

    def action_sort_next(self) -> None:
        """Sort by the next column."""
        self.table.sort_by_next()

    def action_sort_reverse(self) -> None:
        """Turn the order around."""
        self.table.sort_reversed()

    def action_wide(self) -> None:
        """More columns, or the usual ones."""
        self._wide = not self._wide
        slots = self.slots(wide=self._wide)
        if self._wide:
            usual = {slot.column.name for slot in self.slots(wide=False)}
            slots = [replace(slot, rank=_asked_for(slot, usual)) for slot in slots]
        self.table.set_slots(slots)

    def action_describe(self) -> None:
        """Show all that is known about the row under the cursor."""
        if (row := self.table.row) is not None:
            self.post_message(Describe(safe_text(self.label(row), 80), described(self.view, row)))


def _asked_for(slot: Slot[Any], usual: Collection[str]) -> int:
    """Where there is no room for all, what was asked for stays beside what every row begins with."""
    return slot.rank if not slot.rank or slot.column.name not in usual else slot.rank + 100


def described(view: View[T], row: T) -> list[tuple[str, str]]:
    """Put a row into lines: its columns as shown, then what else the API says of it."""
    columns = view.select(wide=True)
    lines = [(column.title.lower() or column.name, column.text(row)) for column in columns]
    shown = {column.name for column in columns}
    more: dict[str, Any] = view.json(row)
    return lines + [
        (safe_text(name), safe_text(value if isinstance(value, str) else msgspec.json.encode(value).decode()))
        for name, value in more.items()
        if name not in shown and not name.endswith(("_details", "message_stats"))
    ]
