"""Queue: one queue: depth and rates over the last minutes, who consumes, what leads here, how it was declared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from busctl.tui.feed import Feed
from busctl.tui.messages import OpenTail
from busctl.tui.screens.overview import rate_series
from busctl.tui.screens.place import Place
from busctl.tui.screens.queue_tables import arguments_table, bindings_table, consumers_table, settings_of
from busctl.tui.widgets.chart import Chart, Series
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats, queues
from busctl.views.view import Tone

if TYPE_CHECKING:
    from busctl_lib.management.infos import Details, QueueInfo
    from busctl_lib.poller import QueueKey, Snapshot

_TONES = {
    Tone.NORMAL: "bold",
    Tone.GOOD: "bold $text-success",
    Tone.WARN: "bold $text-warning",
    Tone.BAD: "bold $text-error",
    Tone.MUTED: "$muted",
}


class QueueScreen(Place):
    """One queue. It is watched (asked about in detail with every beat) while it is shown.

    Args:
        feed: The bus.
        key: (vhost, queue).
    """

    CSS_PATH = "queue.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tail", "tail", id="queue.tail", tooltip="Watch the queue's messages, without taking any."),
        Binding("tab", "app.focus_next", "next table", id="queue.next", tooltip="Go to the next table."),
    ]

    def __init__(self, feed: Feed, key: QueueKey) -> None:
        super().__init__(feed)
        self.key = key

    @property
    def crumb(self) -> str:
        """The queue's name."""
        return formats.safe_text(self.key[1], 60)

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("queues", self.key[1])

    def compose_place(self) -> ComposeResult:
        """Facts, charts, tables."""
        yield Static("asking the broker …", id="queue-facts", markup=False)
        with Horizontal(id="queue-charts"):
            with Vertical(classes="panel") as depth:
                depth.border_title = "Depth, last 10 min"
                yield Chart(id="queue-depth")
            with Vertical(classes="panel") as rates:
                rates.border_title = "Rates, last 10 min"
                yield Chart(unit="/s", text=formats.rate, id="queue-rates")
        with Container(id="queue-tables"):
            with Vertical(classes="panel", id="queue-consumers-panel") as consumers:
                consumers.border_title = "Consumers"
                yield consumers_table()
            with Vertical(classes="panel", id="queue-bindings-panel") as bindings:
                bindings.border_title = "Bindings"
                yield bindings_table()
            with Vertical(classes="panel", id="queue-arguments-panel") as arguments:
                arguments.border_title = "Arguments"
                yield arguments_table()

    def on_mount(self) -> None:
        """Ask for everything about this queue from now on."""
        self.feed.poller.watch_queue(*self.key)

    def on_unmount(self) -> None:
        """No longer."""
        self.feed.poller.unwatch_queue(*self.key)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Fill in what the beat brought; a queue that is gone stays as it was, and says so."""
        info = snapshot.details.get(self.key) or snapshot.queues.get(self.key)
        if info is None:
            self._say_gone(snapshot)
            return
        self.query_one("#queue-facts", Static).update(self._facts(info))
        self._draw_depth(snapshot, info)
        self._draw_rates(snapshot, info)
        self._fill("consumers", info.consumer_details, "Nobody consumes from here.")
        self._fill("bindings", snapshot.bindings.get(self.key), "Nothing leads here.")
        self._fill("arguments", settings_of(info), "Declared without arguments, no policy.")

    def _say_gone(self, snapshot: Snapshot) -> None:
        if snapshot.error is None:
            text = f"There is no queue {formats.safe_text(self.key[1])} in vhost {formats.safe_text(self.key[0])}."
            self.query_one("#queue-facts", Static).update(Content.assemble(("✖ ", "bold $text-error"), text))

    def _fill(self, what: str, rows: Sequence[object] | None, empty: str) -> None:
        table = self.query_one(f"#queue-{what}", LiveTable)
        table.empty = empty if rows is not None else "asking the broker …"
        table.set_rows(rows or [])
        self.query_one(f"#queue-{what}-panel").border_subtitle = str(len(rows)) if rows else ""

    @staticmethod
    def _facts(info: QueueInfo) -> Content:
        state = queues.state(info)
        numbers = [
            (formats.count(info.messages_ready), "ready"),
            (formats.count(info.messages_unacknowledged), "unacked"),
            (formats.count(info.consumers), "consumers"),
            (formats.rate(queues.rate_in(info)), "in/s"),
            (formats.rate(queues.rate_out(info)), "out/s"),
        ]
        words = [
            info.type or formats.UNKNOWN,
            "durable" if info.durable else "transient",
            *(["auto-delete"] if info.auto_delete else []),
            *(["exclusive"] if info.exclusive else []),
            *([f"policy {info.policy}"] if info.policy else []),
            *([f"on {info.leader or info.node}"] if info.leader or info.node else []),
            *([formats.size(info.memory)] if info.memory else []),
        ]
        parts: list[tuple[str, str] | str] = [(formats.safe_text(state.text), _TONES[state.tone]), "  "]
        for number, label in numbers:
            parts += [(number, "bold"), (f" {label}  ", "$muted")]
        return Content.assemble(*parts, "\n", (formats.safe_text(" · ".join(words)), "$muted"))

    def _draw_depth(self, snapshot: Snapshot, info: QueueInfo) -> None:
        now = snapshot.taken_wall or 0.0
        lines = [
            _depth_series("ready", info.messages_ready_details, info.messages_ready, now),
            _depth_series("unacked", info.messages_unacknowledged_details, info.messages_unacknowledged, now),
        ]
        if not lines[0].points and (history := snapshot.history.get(self.key)):
            lines = [Series("messages", list(history), info.messages)]
        self.query_one("#queue-depth", Chart).show(lines, now)

    def _draw_rates(self, snapshot: Snapshot, info: QueueInfo) -> None:
        now = snapshot.taken_wall or 0.0
        stats = info.message_stats
        lines = []
        for name, details in (
            ("in", stats.publish_details if stats else None),
            ("out", stats.deliver_get_details if stats else None),
            ("ack", stats.ack_details if stats else None),
        ):
            samples = queues.rates_between(details.samples if details else None)
            lines.append(rate_series(name, details, samples, now))
        self.query_one("#queue-rates", Chart).show(lines, now)

    def action_tail(self) -> None:
        """Watch the queue's messages."""
        self.post_message(OpenTail(self.key[1]))


def _depth_series(name: str, details: Details | None, count: int | None, now: float) -> Series:
    samples = sorted((details.samples if details else None) or (), key=lambda sample: sample.timestamp)
    points = [(sample.timestamp / 1000, sample.sample) for sample in samples]
    if count is not None and points:
        points.append((max(now, points[-1][0]), count))
    return Series(name, points, count)
