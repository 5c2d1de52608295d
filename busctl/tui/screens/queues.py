"""Queues: every queue of the virtual host, live."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from busctl.tui.feed import Feed
from busctl.tui.filters import Filter
from busctl.tui.messages import OpenQueue, OpenTail
from busctl.tui.screens.place import Place
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.tui.widgets.trend import Scale, trend
from busctl.views.queues import QUEUES
from busctl.views.view import Column
from busctl_lib.management.infos import QueueInfo
from busctl_lib.poller import Snapshot

_SPAN_S = 600.0


class QueuesScreen(Place):
    """The table of queues. Only the rows on the screen are asked about in detail.

    Args:
        feed: The bus.
        glob: Show only queues with names like this.
    """

    CSS_PATH = "queues.tcss"
    FILTERS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tail", "tail", id="queues.tail", tooltip="Watch the queue's messages, without taking any."),
        Binding("s", "sort_next", "sort", id="queues.sort", tooltip="Sort by the next column."),
        Binding("S", "sort_reverse", "reverse", id="queues.reverse", show=False, tooltip="Turn the order around."),
        Binding("w", "wide", "wide", id="queues.wide", tooltip="More columns, or the usual ones."),
        Binding("N", "sort('name')", "sort by name", id="queues.sort-name", show=False),
        Binding("R", "sort('messages_ready')", "sort by ready", id="queues.sort-ready", show=False),
        Binding("U", "sort('messages_unacknowledged')", "sort by unacked", id="queues.sort-unacked", show=False),
        Binding("C", "sort('consumers')", "sort by consumers", id="queues.sort-consumers", show=False),
        Binding("I", "sort('in')", "sort by rate in", id="queues.sort-in", show=False),
        Binding("O", "sort('out')", "sort by rate out", id="queues.sort-out", show=False),
    ]

    def __init__(self, feed: Feed, glob: str = "") -> None:
        super().__init__(feed)
        if glob:
            self.filter = Filter(glob, glob=True)
        self._scale = Scale()
        self._wide = False

    @property
    def crumb(self) -> str:
        """Queues."""
        return "queues"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("queues", *([self.filter.text] if self.filter and self.filter.glob else []))

    def compose_place(self) -> ComposeResult:
        """One table."""
        yield LiveTable(
            QUEUES,
            self._slots(),
            key=lambda info: info.key,
            sort="-messages_ready",
            empty="asking the broker …",
            id="queues-table",
        )

    @property
    def _table(self) -> LiveTable[QueueInfo]:
        return self.query_one("#queues-table", LiveTable)

    def _slots(self) -> list[Slot[QueueInfo]]:
        column = QUEUES.column
        depth: Column[QueueInfo] = Column(name="trend", title="DEPTH 10m", value=lambda _: None, text=lambda _: "")
        slots = [
            Slot(column=column("name"), least=18, most=64, rank=0),
            Slot(column=column("type"), least=7, rank=8),
            Slot(column=column("messages_ready"), least=6, rank=1),
            Slot(column=column("messages_unacknowledged"), least=8, rank=7),
            Slot(column=column("consumers"), least=5, rank=2),
            Slot(column=column("in"), least=6, rank=5),
            Slot(column=column("out"), least=6, rank=6),
            Slot(column=depth, least=10, most=40, rank=3, draw=self._trend),
            Slot(column=column("state"), least=14, most=22, rank=4),
        ]
        if self._wide:
            slots[3:3] = [Slot(column=column("messages"), least=6, rank=12)]
            slots += [
                Slot(column=column("ack"), least=6, rank=9),
                Slot(column=column("memory"), least=7, rank=10),
                Slot(column=column("message_bytes"), least=7, rank=11),
                Slot(column=column("features"), least=8, most=24, rank=13),
                Slot(column=column("policy"), least=8, most=24, rank=14),
                Slot(column=column("node"), least=10, most=30, rank=15),
            ]
        return slots

    def _trend(self, info: QueueInfo, width: int) -> str:
        snapshot = self.feed.snapshot
        return trend(snapshot.history.get(info.key, ()), width, snapshot.taken_wall or 0.0, self._scale, _SPAN_S)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Fill the table; the sparklines of a column share one scale."""
        self._scale.take(depth.messages for series in snapshot.history.values() for depth in series)
        self.show_filtered()

    def show_filtered(self) -> None:
        """Show the queues whose names pass."""
        snapshot = self.feed.snapshot
        if snapshot.taken_at is None:
            return
        shown = [info for info in snapshot.queues.values() if self.filter.matches(info.name)]
        self._table.empty = "No queue matches." if self.filter and snapshot.queues else "No queues here yet."
        self._table.set_rows(shown)
        self._say_counts()

    def _say_counts(self) -> None:
        total, shown = len(self.feed.snapshot.queues), len(self._table.rows)
        counted = f"{shown:,} of {total:,}" if shown != total else f"{total:,} queue{'s' if total != 1 else ''}"
        self.say_facts(f"by {self._table.sort_label}  {counted}")

    @on(LiveTable.Scrolled)
    def _rows_in_sight(self) -> None:
        self.feed.poller.show_queues([info.key for info in self._table.visible_rows])

    @on(LiveTable.Sorted)
    def _order_changed(self) -> None:
        self._say_counts()

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        self.post_message(OpenQueue(*event.row.key))

    def action_tail(self) -> None:
        """Watch the queue's messages."""
        if (info := self._table.row) is not None:
            self.post_message(OpenTail(info.name))

    def action_sort(self, name: str) -> None:
        """Sort by a column."""
        self._table.sort_by(name)

    def action_sort_next(self) -> None:
        """Sort by the next column."""
        self._table.sort_by_next()

    def action_sort_reverse(self) -> None:
        """Turn the order around."""
        self._table.sort_reversed()

    def action_wide(self) -> None:
        """More columns, or the usual ones."""
        self._wide = not self._wide
        self._table.set_slots(self._slots())
