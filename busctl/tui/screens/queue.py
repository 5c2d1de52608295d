"""Queue: one queue: depth and rates over the last minutes, who consumes, what leads here, how it was declared."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from busctl.tui.feed import Feed
from busctl.tui.messages import ChannelsAsked, OffsetsAsked, SpanAsked
from busctl.tui.nouns import bindings_of_exchange, connection_named
from busctl.tui.screens.queue_charts import SPANS, Span, depth_lines, rate_lines
from busctl.tui.screens.queue_tables import (
    ASKING,
    arguments_table,
    bindings_table,
    channel_of,
    consumers_table,
    dead_letters_to,
    saturation,
    settings_of,
    takers,
)
from busctl.tui.screens.queue_verbs import QueueVerbs
from busctl.tui.widgets.chart import Chart
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats, queues
from busctl.views.consumers import connection as consumer_connection
from busctl.views.queue_detail import offsets, priorities
from busctl.views.takers import Taker
from busctl.views.view import Tone
from busctl_lib.errors import ApiForbidden, BusError, NotFound
from busctl_lib.management.infos import BindingInfo
from busctl_lib.poller import MIN_INTERVAL_S
from busctl_lib.queue_detail import tracking_of

if TYPE_CHECKING:
    from busctl_lib.depths import QueueKey
    from busctl_lib.management.infos import ChannelInfo, QueueInfo, StreamTracking
    from busctl_lib.poller import Snapshot

SPAN_BEAT_S = 10.0
CHANNEL_BEAT_S = 5.0
"""The broker's statistics of channels move no faster."""
CHANNELS_ASKED = 20
"""Of how many consumers is asked what they hold; of more it would cost the broker too much."""
_TONES = {
    Tone.NORMAL: "bold",
    Tone.GOOD: "bold $text-success",
    Tone.WARN: "bold $text-warning",
    Tone.BAD: "bold $text-error",
    Tone.MUTED: "$muted",
}


def _readiness(info: QueueInfo) -> float | None:
    """How often a consumer could take a message at once, where that is not always."""
    capacity = info.consumer_utilisation if info.consumer_capacity is None else info.consumer_capacity
    return capacity if info.consumers and capacity is not None and capacity < 0.995 else None


class QueueScreen(QueueVerbs):
    """One queue. It is watched (asked about in detail with every beat) while it is shown.

    Args:
        feed: The bus.
        key: (vhost, queue).
    """

    CSS_PATH = "queue.tcss"
    PARTS = frozenset({"details"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("D", "dead", "dead letters", id="queue.dead", tooltip="Its dead letters, by cause."),
        Binding("t", "tail", "tail", id="queue.tail", tooltip="Watch the queue's messages, without taking any."),
        Binding("p", "peek", "peek", id="queue.peek", tooltip="Look at what waits, within the peek budget."),
        Binding("z", "span", "span", id="queue.span", tooltip="Charts over 10 minutes, an hour, a day, a minute."),
        Binding("c", "consumers", "consumers", id="queue.consumers", tooltip="Who consumes from it."),
        Binding("b", "publish", "publish", id="queue.publish", tooltip="Write a message to the queue."),
        Binding("r", "transfer('replay')", "replay", id="queue.replay", tooltip="Plan to replay its dead letters."),
        Binding("m", "move", "move", id="queue.move", tooltip="Move its messages to another queue."),
        Binding(
            "ctrl+x",
            "transfer('discard')",
            "purge",
            id="queue.purge",
            tooltip="Plan to empty it, into the trash of this machine.",
        ),
        Binding("e", "bindings", "exchange", id="queue.bindings", show=False, tooltip="What leads to the queue."),
        Binding(
            "T", "topology", "topology", id="queue.topology", show=False, tooltip="What feeds it, and where it leads."
        ),
        Binding("tab", "app.focus_next", "next table", id="queue.next", tooltip="Go to the next table."),
    ]

    def __init__(self, feed: Feed, key: QueueKey) -> None:
        super().__init__(feed)
        self.key = key
        self._span = SPANS[0]
        self._older: QueueInfo | None = None
        """The queue with samples of the chosen span, when the poller does not bring them."""
        self._channels: Mapping[str, ChannelInfo] = {}
        """Of its consumers, by name."""
        self._tracking: StreamTracking | None = None
        """Of a stream: what its readers stored in it."""
        self._gone_away = threading.Event()

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
        yield Static(ASKING, id="queue-facts", markup=False)
        with Horizontal(id="queue-charts"):
            with Vertical(classes="panel", id="queue-depth-panel") as depth:
                depth.border_title = "Depth, last 10 min"
                yield Chart(id="queue-depth")
            with Vertical(classes="panel", id="queue-rates-panel") as rates:
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
        self._ask_channels()

    def on_unmount(self) -> None:
        """No longer."""
        self._gone_away.set()
        self.feed.poller.unwatch_queue(*self.key)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Fill in what the beat brought; a queue that is gone stays as it was, and says so."""
        info = snapshot.details.get(self.key) or snapshot.queues.get(self.key)
        if info is None:
            self._say_gone(snapshot)
            return
        self.query_one("#queue-facts", Static).update(self._facts(info))
        self._draw_charts(snapshot, info)
        release = snapshot.overview.release if snapshot.overview else None
        self._fill("consumers", takers(info, self._channels, release), "Nobody consumes from here.")
        self.query_one("#queue-consumers-panel").border_title = f"Consumers{saturation(info)}"
        self._fill("bindings", snapshot.bindings.get(self.key), "Nothing leads here.")
        self._fill("arguments", settings_of(info), "Declared without arguments, no policy.")

    def show_unknown(self, text: str) -> None:
        """Nothing was seen yet."""
        self.query_one("#queue-facts", Static).update(text)

    def _say_gone(self, snapshot: Snapshot) -> None:
        if snapshot.error is None and not snapshot.missing.keys() & self.PARTS:
            text = f"There is no queue {formats.safe_text(self.key[1])} in vhost {formats.safe_text(self.key[0])}."
            self.query_one("#queue-facts", Static).update(Content.assemble(("✖ ", "bold $text-error"), text))

    def _fill(self, what: str, rows: Sequence[object] | None, empty: str) -> None:
        table = self.query_one(f"#queue-{what}", LiveTable)
        table.empty = empty if rows is not None else ASKING
        table.set_rows(rows or [])
        self.query_one(f"#queue-{what}-panel").border_subtitle = str(len(rows)) if rows else ""

    def _facts(self, info: QueueInfo) -> Content:
        state = queues.state(info)
        numbers = [
            (formats.count(info.messages_ready), "ready"),
            (formats.count(info.messages_unacknowledged), "unacked"),
            *([(formats.count(info.delayed), "delayed")] if info.delayed else []),
            (formats.count(info.consumers), "consumer" if info.consumers == 1 else "consumers"),
            (formats.rate(queues.rate_in(info)), "in/s"),
            (formats.rate(queues.rate_out(info)), "out/s"),
        ]
        words = [
            info.type or formats.UNKNOWN,
            "durable" if info.durable else "transient",
            *(["auto-delete"] if info.auto_delete else []),
            *(["exclusive"] if info.exclusive else []),
            *([f"dead letters to {to}"] if (to := dead_letters_to(info)) else []),
            *([f"policy {info.policy}"] if info.policy else []),
            *([f"consumers ready {ready:.0%} of the time"] if (ready := _readiness(info)) is not None else []),
            *([f"on {info.leader or info.node}"] if info.leader or info.node else []),
            *([formats.size(info.memory)] if info.memory else []),
            *([f"by priority {waiting}"] if (waiting := priorities(info)) else []),
            *([f"first message {formats.ago(info.first_timestamp / 1000)}"] if info.first_timestamp else []),
            *([f"read by {readers}"] if self._tracking and (readers := offsets(self._tracking)) else []),
        ]
        parts: list[tuple[str, str] | str] = [(formats.safe_text(state.text), _TONES[state.tone]), "  "]
        for number, label in numbers:
            parts += [(number, "bold"), (f" {label}  ", "$muted")]
        return Content.assemble(*parts, "\n", (formats.safe_text(" · ".join(words)), "$muted"))

    def _draw_charts(self, snapshot: Snapshot, info: QueueInfo) -> None:
        now, span = snapshot.taken_wall or 0.0, self._span
        if span.asked is not None:
            if self._older is None:
                return
            info = self._older
        history = snapshot.history.get(self.key, ())
        self.query_one("#queue-depth", Chart).show(depth_lines(info, now, span, history), now, span.seconds)
        self.query_one("#queue-rates", Chart).show(rate_lines(info, now, span), now, span.seconds)

    # --- other spans: the worker never touches a widget

    def action_span(self) -> None:
        """Show more of the past, or less."""
        self._span = SPANS[(SPANS.index(self._span) + 1) % len(SPANS)]
        self._older = None
        for panel, title in (("#queue-depth-panel", "Depth"), ("#queue-rates-panel", "Rates")):
            self.query_one(panel).border_title = f"{title}, {self._span.title}"
        self._ask_span(self._span)
        self.take_snapshot(self.feed.snapshot)

    @work(thread=True, exclusive=True, exit_on_error=False, group="span")
    def _ask_span(self, span: Span) -> None:
        worker = get_current_worker()
        while span.asked is not None and not worker.is_cancelled:
            try:
                info = self.feed.session.management.queue(*self.key, span.asked)
            except BusError:  # the state line says so already
                pass
            else:
                self.post_message(SpanAsked(span, info))
            self._gone_away.wait(SPAN_BEAT_S)
            if self._gone_away.is_set():
                return

    @work(thread=True, exclusive=True, exit_on_error=False, group="channels")
    def _ask_channels(self) -> None:
        """What its consumers hold: the broker tells that by channel."""
        known: dict[str, ChannelInfo] = {}
        while not self._gone_away.is_set():
            info = self.feed.snapshot.details.get(self.key)
            consumers = info.consumer_details if info is not None else None
            names = {name for each in consumers or () if (name := channel_of(each))}
            known = {name: channel for name, channel in known.items() if name in names}
            for name in sorted(names)[:CHANNELS_ASKED]:
                try:
                    known[name] = self.feed.session.management.channel(name)
                except (NotFound, ApiForbidden):  # closed meanwhile, or not for this user: what it holds is not known
                    known.pop(name, None)
                except BusError:  # the state line says so already; what was seen last stays
                    break
            self.post_message(ChannelsAsked(dict(known)))
            if info is not None and info.type == "stream":
                self.post_message(OffsetsAsked(tracking_of(self.feed.session.management, info)[0]))
            self._gone_away.wait(CHANNEL_BEAT_S if consumers is not None else MIN_INTERVAL_S)

    @on(ChannelsAsked)
    def _take_channels(self, message: ChannelsAsked) -> None:
        if message.channels != self._channels:
            self._channels = message.channels
            self.take_snapshot(self.feed.snapshot)

    @on(OffsetsAsked)
    def _take_offsets(self, message: OffsetsAsked) -> None:
        if message.tracking != self._tracking:
            self._tracking = message.tracking
            self.take_snapshot(self.feed.snapshot)

    @on(SpanAsked)
    def _take_span(self, message: SpanAsked) -> None:
        if message.span == self._span:
            self._older = message.info
            self._draw_charts(self.feed.snapshot, message.info)

    # --- keys

    @property
    def queue_name(self) -> str:
        """The one shown."""
        return self.key[1]

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        row = event.row
        if isinstance(row, Taker):
            message: Message | None = connection_named(consumer_connection(row.consumer))
        elif isinstance(row, BindingInfo):
            message = bindings_of_exchange(row.source)
        else:
            message = None
        if message is not None:
            self.post_message(message)
