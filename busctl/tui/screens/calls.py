"""Calls: the calls of others by a queue: request, reply and the time between; the figures of each method."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker

from busctl.tui.feed import Feed
from busctl.tui.messages import CallsCounted, FlowOpened, OpenPublish
from busctl.tui.screens.flow_place import FlowPlace
from busctl.tui.screens.messages_place import message_facts
from busctl.tui.tapping import lost_link, opened_tap
from busctl.tui.widgets.body_text import body_text
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import calls as view
from busctl.views.formats import safe_text
from busctl_lib.documents import body_of
from busctl_lib.envelope import Delivery
from busctl_lib.questions import Question
from busctl_lib.rpc.pairs import MethodFigures, Pairs, SpiedCall

if TYPE_CHECKING:
    from busctl_lib.taps import Tap

_COUNT_S = 1.0
_SAMPLES = 1_000


class CallsScreen(FlowPlace[SpiedCall]):
    """Who asked what, what came back, and after how long. Nothing is taken from any queue.

    Args:
        feed: The bus.
        queue: Of requests, or of replies.
    """

    AUTO_FOCUS = "#calls-table"
    KEPT_ROWS = 500
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "publish_like", "publish like it", id="calls.publish", tooltip="Edit the request and send it."),
    ]

    def __init__(self, feed: Feed, queue: str) -> None:
        super().__init__(feed, view.CALLS)
        self.queue = queue

    # --- what a table place asks

    @property
    def crumb(self) -> str:
        """Calls and the queue."""
        return f"calls {safe_text(self.queue, 60)}"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("rpc", "spy", self.queue)

    @property
    def empty(self) -> str:
        """Nothing yet."""
        return "No call was seen yet: a request shows when its reply is there, or its time is over." * self._opened

    def slots(self, *, wide: bool) -> list[Slot[SpiedCall]]:
        """The columns."""
        column = view.CALLS.column
        slots = [
            Slot(column=column("at"), least=12, rank=3),
            Slot(column=column("state"), least=9, most=16, rank=0),
            Slot(column=column("latency"), least=8, rank=1),
            Slot(column=column("method"), least=12, most=24, rank=2),
            Slot(column=column("request"), least=14, most=50, rank=4),
            Slot(column=column("reply"), least=14, most=200, rank=5),
        ]
        if wide:
            slots[4:4] = [Slot(column=column("queue"), least=10, most=30, rank=6)]
            slots.append(Slot(column=column("error"), least=8, most=24, rank=7))
        return slots

    def label(self, row: SpiedCall) -> str:
        """State, method, error and both halves."""
        halves = (view.CALLS.column(name).text(row) for name in ("request", "reply"))
        return " ".join([row.state, row.method, row.error or "", row.correlation_id or "", *halves])

    def ask(self, row: SpiedCall) -> Question:
        """Put a call to jq: a half whose body could not be read is not known."""
        halves = {name: body_of(half) for name in ("request", "reply") if (half := getattr(row, name)) is not None}
        unread = {name: body.why for name, body in halves.items() if body.why is not None}
        return super().ask(row)._replace(hidden=frozenset(unread), why="; ".join(map(str, unread.values())))

    def compose_place(self) -> ComposeResult:
        """The rows, one of them in full, the figures of each method."""
        yield from super().compose_place()
        with Horizontal(id="calls-detail"):
            for half in ("request", "reply"):
                with VerticalScroll(id=f"calls-{half}", classes="panel"):
                    yield Static("", id=f"calls-{half}-text", markup=False)
        with Vertical(id="calls-figures-panel", classes="panel") as panel:
            panel.border_title = "Methods"
            yield _figures_table()

    @property
    def table(self) -> LiveTable[SpiedCall]:
        """The rows."""
        return self.query_one("#calls-table", LiveTable)

    # --- the worker

    def follow(self, worker: Worker[None]) -> None:
        """Watch requests and replies through a firehose, and pair them."""
        from busctl_lib.taps.calls import plan_calls

        session = self.feed.session
        session.broker.connect()
        plan = plan_calls(
            session.management,
            session.vhost,
            self.queue,
            exchanges={method.exchange for method in self.feed.methods.values()},
            production=session.settings.production,
        )
        with opened_tap(self.feed, self.app, plan) as tap:
            # What it costs must not be what is cut off.
            self.post_message(FlowOpened([f"via {plan.way}, costs {plan.costs}", plan.coverage]))
            self.gather(worker, self._pairing(tap), lambda: lost_link(session.broker))

    def _pairing(self, tap: Tap) -> Callable[[float], SpiedCall | None]:
        pairs, learnt, methods = Pairs(), deque[SpiedCall](), set[str]()
        due = 0.0

        def take(timeout_s: float) -> SpiedCall | None:
            nonlocal due
            if not learnt:
                event = tap.next(timeout_s)
                if isinstance(event, Delivery):
                    learnt.extend(call for call in pairs.take(event) if self._is_by(call))
            if (now := time.monotonic()) >= due:
                due = now + _COUNT_S
                learnt.extend(call for call in pairs.expire(time.time()) if self._is_by(call))
                self.post_message(CallsCounted([_cut(one) for one in pairs.figures() if one.method in methods]))
            if not learnt:
                return None
            methods.add(learnt[0].method)
            return learnt.popleft()

        return take

    def _is_by(self, call: SpiedCall) -> bool:
        request = call.request
        return self.queue in (call.queue, request.properties.reply_to if request is not None else None)

    # --- what it tells

    @on(CallsCounted)
    def _count(self, message: CallsCounted) -> None:
        self.query_one("#calls-figures", LiveTable).set_rows(message.figures)

    # --- one call

    @on(LiveTable.Opened)
    def _open(self) -> None:
        self.add_class("-detail")
        self.pause()
        self._show_call()
        self.refresh_bindings()

    @on(LiveTable.Moved)
    def _show_call(self) -> None:
        call = self.table.row
        if call is None or not self.has_class("-detail"):
            return
        took = f", {view.milliseconds(call.latency_s)} later" if call.latency_s is not None else ""
        asked = safe_text(f"Request: {call.method} by {call.queue}", 80)
        for half, title, delivery in (("request", asked, call.request), ("reply", f"Reply{took}", call.reply)):
            panel = self.query_one(f"#calls-{half}")
            panel.border_title = title
            panel.scroll_home(animate=False)
            text = Content.styled("none was seen", "$muted") if delivery is None else _in_full(delivery)
            self.query_one(f"#calls-{half}-text", Static).update(text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape closes the call first."""
        if action == "up" and self.has_class("-detail"):
            return True
        return super().check_action(action, parameters)

    def action_up(self) -> None:
        """Close the call, else go up."""
        if self.has_class("-detail"):
            self.remove_class("-detail")
            self.table.focus()
        else:
            super().action_up()

    def action_publish_like(self) -> None:
        """Write a message that begins as the request under the cursor."""
        if (call := self.table.row) is not None and call.request is not None:
            self.post_message(OpenPublish(like=call.request))


def _figures_table() -> LiveTable[MethodFigures]:
    slots = [
        Slot(
            column=column,
            least=14 if column.name == "method" else max(len(column.title) + 1, 8),
            most=32 * (column.align == "left"),
            rank=rank,
        )
        for rank, column in enumerate(view.FIGURES.columns)
    ]
    return LiveTable(view.FIGURES, slots, key=lambda one: one.method, sort="-answered", opens=False, id="calls-figures")


def _cut(figures: MethodFigures) -> MethodFigures:
    """A copy that the screen may keep, of the last replies."""
    return replace(figures, latencies_s=sorted(figures.latencies_s[-_SAMPLES:]))


def _in_full(delivery: Delivery) -> Content:
    return body_text(body_of(delivery)) + "\n\n" + message_facts(delivery)
