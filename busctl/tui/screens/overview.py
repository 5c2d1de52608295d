"""Overview: what is wrong, at a glance; how the bus breathes; how its nodes are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content

from busctl.tui.feed import Feed
from busctl.tui.filters import Filter
from busctl.tui.messages import OpenList, OpenQueue, OpenTail, OwnAsked
from busctl.tui.screens.place import Place
from busctl.tui.widgets.chart import Chart, Series
from busctl.tui.widgets.nodes import NodeBars
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats, missing, queues
from busctl.views.happenings import HAPPENINGS
from busctl.views.overview import Attention, of_broker, of_checks, tags
from busctl.views.view import Column, View
from busctl_lib.errors import BusError
from busctl_lib.poller import Snapshot

if TYPE_CHECKING:
    from busctl_lib.management.infos import Details, QueueInfo

OWN_BEAT_S = 30.0
"""What the broker says of itself moves seldom, and each of its checks is a request."""

ATTENTION: View[Attention] = View(
    noun="matters",
    sort="name",
    columns=(
        Column(
            name="name",
            title="WHAT",
            value=lambda matter: matter.name,
            text=lambda matter: f"{matter.mark} {matter.name}",
            tone=lambda matter: matter.tone,
        ),
        Column(name="text", title="WHY", value=lambda matter: matter.text, text=lambda matter: matter.text),
    ),
)


def rate_series(name: str, details: Details | None, samples: Sequence[tuple[float, float]], now: float) -> Series:
    """A line of rates from the broker's samples, ended by the rate of this moment."""
    rate = details.rate if details is not None else None
    points = list(samples)
    if rate is not None and points and points[-1][0] < now:
        points.append((now, rate))
    return Series(name, points, rate)


def _clauses(matter: Attention, width: int) -> str:
    """As many whole clauses as there is room for: half of one says nothing."""
    text = matter.text
    while len(text) > width and ", " in text:
        text = text.rpartition(", ")[0]
    return text


class OverviewScreen(Place):
    """The first place, below all others."""

    CSS_PATH = "overview.tcss"
    AUTO_FOCUS = "#overview-matters"
    FILTERS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("2", "app.queues", "queues", id="overview.queues", tooltip="Go to the queues."),
        Binding("3", "app.rpc", "rpc", id="overview.rpc", tooltip="Call a method and see its reply."),
        Binding("t", "tail", "tail", id="overview.tail", tooltip="Watch the messages of the queue under the cursor."),
        Binding("tab", "app.focus_next", "next table", id="overview.next", tooltip="Go to the next table."),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._own: OwnAsked | None = None
        """What the broker says of itself; None until it was asked."""
        self._gone_away = threading.Event()

    def on_mount(self) -> None:
        """Ask the broker about itself from now on."""
        self._ask_own()

    def on_unmount(self) -> None:
        """No longer."""
        self._gone_away.set()

    @property
    def crumb(self) -> str:
        """Overview."""
        return "overview"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("overview")

    def compose_place(self) -> ComposeResult:
        """Rates, queues and nodes on the left; what needs attention and what just happened on the right."""
        with Container(id="overview-grid"):
            with Vertical(id="overview-rates", classes="panel") as rates:
                rates.border_title = "Rates, last 10 min"
                yield Chart(unit="/s", text=formats.rate, id="overview-chart")
            with Vertical(id="overview-attention", classes="panel") as attention:
                attention.border_title = "Needs attention"
                yield LiveTable(
                    ATTENTION,
                    [
                        Slot(column=ATTENTION.column("name"), least=18, most=44, rank=0),
                        Slot(column=ATTENTION.column("text"), least=16, most=60, rank=1, draw=_clauses),
                    ],
                    key=lambda matter: (matter.key, matter.name),
                    empty="asking the broker …",
                    id="overview-matters",
                )
            with Vertical(id="overview-busiest", classes="panel") as busiest:
                busiest.border_title = "Busiest queues"
                yield self._busiest_table()
            with Vertical(id="overview-happened", classes="panel") as just:
                just.border_title = "Just happened"
                just.border_subtitle = ":events tells more"
                yield LiveTable(
                    HAPPENINGS,
                    [
                        Slot(column=HAPPENINGS.column("at"), least=8, rank=0),
                        Slot(column=HAPPENINGS.column("text"), least=20, most=100, rank=1),
                    ],
                    key=lambda found: found,
                    empty="Nothing since the console was opened.",
                    id="overview-happenings",
                )
            with Vertical(id="overview-nodes", classes="panel") as nodes:
                nodes.border_title = "Nodes"
                yield NodeBars()

    @staticmethod
    def _busiest_table() -> LiveTable[QueueInfo]:
        column = queues.QUEUES.column
        slots = [
            Slot(column=column("name"), least=16, most=44, rank=0),
            Slot(column=column("in"), least=6, rank=1),
            Slot(column=column("out"), least=6, rank=2),
            Slot(column=column("messages_ready"), least=6, rank=3),
            Slot(column=column("consumers"), least=5, rank=5),
            Slot(column=column("state"), least=14, most=22, rank=4),
        ]
        return LiveTable(
            queues.QUEUES,
            slots,
            key=lambda info: info.key,
            sort="-in",
            empty="asking the broker …",
            id="overview-moving",
        )

    @property
    def _matters(self) -> LiveTable[Attention]:
        return self.query_one("#overview-matters", LiveTable)

    @property
    def _moving(self) -> LiveTable[QueueInfo]:
        return self.query_one("#overview-moving", LiveTable)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Fill all of them."""
        matters = [*of_checks(self._own.checks if self._own else ()), *self.feed.judged(snapshot).matters]
        for panel in self.query("#overview-attention, #overview-busiest"):
            panel.set_class("queues" in snapshot.missing, "-stale")
        unseen = missing.no_news(snapshot.missing)
        good = f"Nothing needs attention in what is known: {unseen}." if unseen else "Nothing needs attention. Good."
        self._matters.empty = good
        self._matters.set_rows(matters)
        self.query_one("#overview-attention").border_subtitle = str(len(matters)) if matters else ""
        bars = self.query_one(NodeBars)
        if snapshot.nodes is None and "nodes" in snapshot.missing:
            bars.show_unknown()
        else:
            bars.show(snapshot.nodes)
        known = [info for info in snapshot.queues.values() if info.message_stats is not None]
        moving = [info for info in known if queues.rate_in(info) or queues.rate_out(info)]
        self._moving.empty = "Nothing moves." if not snapshot.missing.keys() & {"queues", "rates"} else "not known"
        self._moving.set_rows(moving)
        self.query_one("#overview-happenings", LiveTable).set_rows(self.feed.happenings)
        self.query_one("#overview-happened").border_subtitle = f"{self.feed.hearing.told}, :events tells more"
        self._draw_rates(snapshot)
        self._say_objects(snapshot)
        self._say_own(snapshot)

    @work(thread=True, exclusive=True, exit_on_error=False, group="own")
    def _ask_own(self) -> None:
        """Have the broker check itself, now and then, while somebody looks."""
        api = self.feed.session.management
        while not self._gone_away.is_set():
            if self.is_current:
                with contextlib.suppress(BusError):  # the state line says so already; what was seen last stays
                    checks, before = api.health(), self._own
                    late = any(each.status == "unknown" for each in checks)  # who is late is not asked on
                    known = before.deprecated if before is not None else None
                    self.post_message(OwnAsked(checks, known if late else api.deprecated_features(used=True)))
            self._gone_away.wait(OWN_BEAT_S)

    @on(OwnAsked)
    def _take_own(self, message: OwnAsked) -> None:
        self._own = message
        self.take_snapshot(self.feed.snapshot)

    def _say_own(self, snapshot: Snapshot) -> None:
        """On the nodes' frame: the tags of cluster and node, what the checks say, what is deprecated and in use."""
        panel = self.query_one("#overview-nodes")
        told = tags(snapshot.overview) if snapshot.overview else None
        panel.border_title = Content(f"Nodes, {told}" if told else "Nodes")
        if self._own is not None:
            panel.border_subtitle = Content(of_broker(self._own.checks, self._own.deprecated))

    def show_unknown(self, text: str) -> None:
        """Nothing was seen yet."""
        self._matters.empty = text
        self._matters.refresh()
        self._moving.empty = "not known yet"
        self._moving.refresh()
        self.query_one(NodeBars).show_unknown()

    def _say_objects(self, snapshot: Snapshot) -> None:
        objects = snapshot.overview.object_totals if snapshot.overview else None
        if objects is None:
            return
        nouns = ("queues", "connections", "consumers")
        counted = "  ".join(f"{formats.count(getattr(objects, noun))} {noun}" for noun in nouns)
        # The broker counts over all virtual hosts, the tables show one.
        self.say_facts(counted if objects.queues == len(snapshot.queues) else f"whole cluster: {counted}")

    def _draw_rates(self, snapshot: Snapshot) -> None:
        stats = snapshot.overview.message_stats if snapshot.overview else None
        now = snapshot.taken_wall or 0.0
        series = []
        for name, details in (
            ("in", stats.publish_details if stats else None),
            ("out", stats.deliver_get_details if stats else None),
        ):
            samples = queues.rates_between(details.samples if details else None)
            series.append(rate_series(name, details, samples, now))
        self.query_one("#overview-chart", Chart).show(series, now)

    def set_filter(self, chosen: Filter) -> None:
        """Nothing here is narrowed while one types."""

    def take_filter(self, chosen: Filter) -> None:
        """What one looks for by a name is a queue."""
        if chosen:
            self.post_message(OpenList("queues", filter=chosen))

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        if event.row.key is not None:
            self.post_message(OpenQueue(*event.row.key))

    def action_tail(self) -> None:
        """Watch the messages of the queue under the cursor."""
        table = self.query_one("LiveTable:focus", LiveTable) if self.query("LiveTable:focus") else self._matters
        if table.row is not None and table.row.key is not None:
            self.post_message(OpenTail(table.row.key[1]))
