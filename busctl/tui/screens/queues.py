"""Queues: every queue of the virtual host, live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType

from busctl.tui.feed import Feed
from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import OpenBulk, OpenQueue
from busctl.tui.screens.queue_verbs import QueueVerbs
from busctl.tui.screens.table_place import TablePlace
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.tui.widgets.trend import Scale, trend
from busctl.views.queues import QUEUES
from busctl_lib.management.infos import QueueInfo
from busctl_lib.poller import Snapshot

if TYPE_CHECKING:
    from busctl_lib.transfers.requests import Kind

_SPAN_S = 600.0


class QueuesScreen(TablePlace[QueueInfo], QueueVerbs):
    """The table of queues. Only the rows on the screen are asked about in detail.

    Args:
        feed: The bus.
        filtered: Show only queues with names like this.
        of: What they belong to, for the breadcrumbs, safe to show.
        only: Which queues belong to it.
    """

    PARTS = frozenset({"queues"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tail", "tail", id="queues.tail", tooltip="Watch the queue's messages, without taking any."),
        Binding("p", "peek", "peek", id="queues.peek", tooltip="Look at what waits, within the peek budget."),
        Binding("b", "publish", "publish", id="queues.publish", tooltip="Write a message to the queue."),
        Binding("r", "transfer('replay')", "replay", id="queues.replay", tooltip="Plan to replay its dead letters."),
        Binding("m", "move", "move", id="queues.move", tooltip="Move its messages to another queue."),
        Binding(
            "ctrl+x",
            "transfer('discard')",
            "purge",
            id="queues.purge",
            tooltip="Plan to empty it, into the trash of this machine; marked queues all at once.",
        ),
        Binding("D", "dead", "dead letters", id="queues.dead", show=False, tooltip="Its dead letters, in groups."),
        Binding("e", "bindings", "exchange", id="queues.bindings", show=False, tooltip="What leads to the queue."),
        Binding("c", "consumers", "consumers", id="queues.consumers", show=False, tooltip="Who consumes from it."),
        Binding(
            "T", "topology", "topology", id="queues.topology", show=False, tooltip="What feeds it, and what it feeds."
        ),
        Binding(
            "plus",
            "sort('growth')",
            "sort by growth",
            id="queues.sort-growth",
            key_display="+",
            show=False,
            tooltip="The queue that grows fastest first.",
        ),
        Binding("N", "sort('name')", "sort by name", id="queues.sort-name", show=False),
        Binding("R", "sort('messages_ready')", "sort by ready", id="queues.sort-ready", show=False),
        Binding("U", "sort('messages_unacknowledged')", "sort by unacked", id="queues.sort-unacked", show=False),
        Binding("C", "sort('consumers')", "sort by consumers", id="queues.sort-consumers", show=False),
        Binding("I", "sort('in')", "sort by rate in", id="queues.sort-in", show=False),
        Binding("O", "sort('out')", "sort by rate out", id="queues.sort-out", show=False),
    ]

    def __init__(
        self,
        feed: Feed,
        filtered: Filter = EVERYTHING,
        *,
        of: str = "",
        only: Callable[[QueueInfo], bool] | None = None,
    ) -> None:
        super().__init__(feed, QUEUES, filtered, of=of, only=only)
        self._scale = Scale()

    # --- what a table place asks

    ordered = True

    # Asked of every queue of a large bus on every beat: without a step in between.
    key = staticmethod(attrgetter("vhost", "name"))  # type: ignore[assignment]

    @property
    def empty(self) -> str:
        """Why there is nothing."""
        return "No queues here yet."

    @property
    def marks(self) -> bool:
        """Many queues can be replayed or emptied at once."""
        return True

    @property
    def first_sort(self) -> str:
        """The fullest first."""
        return "-messages_ready"

    def label(self, row: QueueInfo) -> str:
        """The name."""
        return row.name

    def known_rows(self) -> Sequence[QueueInfo] | None:
        """All queues of the newest snapshot."""
        snapshot = self.feed.snapshot
        return None if not self.knows(snapshot) else self.belonging(self.feed.judged(snapshot).queues)

    def slots(self, *, wide: bool) -> list[Slot[QueueInfo]]:
        """The columns."""
        column = QUEUES.column
        depth = replace(column("growth"), title="DEPTH 10m", align="left")
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
        if wide:
            slots[3:3] = [Slot(column=column("messages"), least=6, rank=12)]
            slots[5:5] = [Slot(column=column("messages_delayed"), least=8, rank=16)]
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

    def knows(self, snapshot: Snapshot) -> bool:
        """Once the queues were listed."""
        return snapshot.listed_at is not None

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Fill the table; the sparklines of a column share one scale."""
        self._scale.take(depth.messages for series in snapshot.history.values() for depth in series)
        self.show_filtered()

    def show_unknown(self, text: str) -> None:
        """Nothing was seen yet."""
        self.table.empty = text
        self.table.refresh()

    # --- keys

    @on(LiveTable.Scrolled)
    def _rows_in_sight(self) -> None:
        self.feed.poller.show_queues([info.key for info in self.table.visible_rows])

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        self.post_message(OpenQueue(*event.row.key))

    @property
    def queue_name(self) -> str | None:
        """The queue under the cursor."""
        info = self.table.row
        return info.name if info is not None else None

    def action_transfer(self, kind: Kind) -> None:
        """Plan an operation on the queue under the cursor, or ask for one on all that are marked."""
        if not self.table.marked:
            super().action_transfer(kind)
            return
        from busctl_lib.transfers import Request

        requests = [Request(kind=kind, source=info.name) for info in self.table.chosen]
        counts = [info.messages_ready or 0 for info in self.table.chosen]
        self.post_message(OpenBulk(requests, counts, self.table.clear_marks))
