"""Tail: the messages of a queue, live and without harm; follow or pause; one of them in full."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker, get_current_worker

from busctl.tui.captures import Saving
from busctl.tui.feed import Feed
from busctl.tui.messages import OpenCalls, TapBatch, TapEnded, TapOpened
from busctl.tui.screens.messages_place import MessagesPlace
from busctl.tui.tapping import RETRY_S, TICK_S, Gatherer, is_away, keep_trying, lost_link, opened_tap
from busctl.views import formats
from busctl.views.formats import safe_text
from busctl_lib.envelope import Delivery
from busctl_lib.errors import GuardRefused

if TYPE_CHECKING:
    from busctl_lib.taps import Tap, TapEvent, TapPlan

RATE_SPAN_S = 60.0


class TailScreen(MessagesPlace):
    """Watches a queue through a tap for as long as it is on the stack; then everything is given back.

    Args:
        feed: The bus.
        queue: Whose messages.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "save", "save", id="tail.save", tooltip="Write all that comes into a capture, or end that."),
        Binding("s", "toggle_follow", "pause/follow", id="tail.pause", tooltip="Stop the rows, or follow again."),
        Binding("P", "calls", "pairs", id="tail.calls", tooltip="Requests with their replies, and the time between."),
    ]

    def __init__(self, feed: Feed, queue: str) -> None:
        super().__init__(feed)
        self.queue = queue
        self.seen = 0
        self._painted = threading.Event()
        self._rate = 0.0
        self._one_of = 1.0
        self._rates: deque[tuple[float, float]] = deque(maxlen=1200)
        """(when, a second) of each batch of the last minutes."""
        self._saving = Saving()
        self._trouble: Content | None = None
        self._opened = False
        self._link: str | None = None

    @property
    def crumb(self) -> str:
        """Tail and the queue."""
        return f"tail {safe_text(self.queue, 60)}"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("tail", self.queue)

    def compose_head(self) -> ComposeResult:
        """What is seen, and how it goes."""
        yield Static("choosing a way to look without harm …", id="tail-coverage", markup=False)
        yield Static("", id="tail-mode", markup=False)

    def on_mount(self) -> None:
        """Begin to watch."""
        self._watch()
        self.show_mode()

    # --- the worker: it owns the tap, and never touches a widget

    @work(thread=True, exclusive=True, exit_on_error=False, group="tail")
    def _watch(self) -> None:
        worker = get_current_worker()
        keep_trying(worker, lambda: self._watch_once(worker), lambda error: self.post_message(TapEnded(error)))

    def _watch_once(self, worker: Worker[None]) -> None:
        from busctl_lib.taps import plan_tap

        session = self.feed.session
        production = session.settings.production
        plan = plan_tap(
            session.management,
            session.vhost,
            self.queue,
            production=production,
            rights=session.rights,
            broker=session.broker,
        )
        # The app: the screen may be gone when the tap has something to say.
        with opened_tap(self.feed, self.app, plan) as tap:
            try:
                self.post_message(TapOpened(plan))
                self._pump(tap, worker)
            finally:
                self._saving.end()

    def _pump(self, tap: Tap, worker: Worker[None]) -> None:
        seen = 0

        def take(timeout_s: float) -> TapEvent | None:
            nonlocal seen
            event = tap.next(timeout_s)
            if isinstance(event, Delivery):
                seen += 1
                self._saving.write(event)
            elif event is not None and event.kind == "changed":
                self.post_message(TapOpened(tap.plan))
            return event

        def tell(events: list[TapEvent], elapsed: float) -> None:
            nonlocal seen
            self.post_message(TapBatch(events, seen, elapsed, lost_link(self.feed.session.broker)))
            seen = 0

        gatherer = Gatherer(take, tell)
        self._painted = gatherer.painted
        gatherer.run(worker, self._saving.settle)

    # --- what it tells

    @on(TapOpened)
    def _begin(self, message: TapOpened) -> None:
        self._trouble = None
        self._opened = True
        self.query_one("#tail-coverage", Static).update(_coverage(message.plan))
        self.show_mode()

    @on(TapBatch)
    def _take(self, message: TapBatch) -> None:
        log = self.log_rows
        deliveries = sum(isinstance(event, Delivery) for event in message.events)
        self.seen += message.seen
        share = min(message.seconds / 2.0, 1.0)  # the rate of about the last two seconds
        self._rate += (message.seen / max(message.seconds, TICK_S) - self._rate) * share
        self._one_of += ((message.seen / deliveries if deliveries else 1.0) - self._one_of) * share
        self._link = message.link
        self._rates.append((time.monotonic(), message.seen / max(message.seconds, TICK_S)))
        log.add(message.events)
        self.show_mode()
        self.call_after_refresh(self._painted.set)

    @on(TapEnded)
    def _end(self, message: TapEnded) -> None:
        error = message.error
        hint = f"  {safe_text(error.hint)}" if error.hint else ""
        again = is_away(error)
        tail = f", next try in {RETRY_S:.0f} s" if again else hint
        word = "refused: " if isinstance(error, GuardRefused) and not self._opened else ""
        self._trouble = Content.assemble(("✖ ", "bold $text-error"), f"{word}{safe_text(str(error))}{tail}")
        if not self._opened:
            self.query_one("#tail-coverage", Static).update("nothing is watched" + (" yet" if again else ""))
        self.show_mode()

    def show_mode(self) -> None:
        """Say how it goes."""
        waits = self._opened and self._trouble is None
        self.log_rows.empty = "" if not waits else "Nothing kept matches." if self.filter else "Nothing came yet."
        self.query_one("#tail-mode", Static).update(self._mode(), layout=False)  # one line high

    def _mode(self) -> Content:
        log = self.log_rows
        if self._trouble is not None:
            return self._trouble
        if not self._opened:
            return Content.styled("○ opening", "$muted")
        if self._link is not None:
            return Content.assemble(
                (f"✖ LINK {safe_text(self._link).upper()}", "bold $text-error"),
                "   nothing can be seen until it is back",
            )
        mode = (
            ("▶ FOLLOWING", "bold $text-success")
            if log.following
            else (f"‖ PAUSED  {log.waiting:,} new", "bold $text-warning")
        )
        parts = [
            mode,
            (f"   {formats.rate(round(self._rate, 1))}/s ", ""),
            (self._rate_line(), "$primary"),
            (f"   {self.seen:,} seen", "$muted"),
        ]
        if self._one_of >= 1.5:
            parts.append((f"   shown 1 of {self._one_of:.0f}", "bold $text-warning"))
        if (saved := self._saving.line) is not None:
            parts.append((f"   ● {safe_text(saved)}", "bold $text-error"))
        if self.filter and not self.filter_trouble:
            parts.append((f"   {log.shown:,} of {log.kept:,} kept match", "$text-accent"))
        return Content.assemble(*parts) + self.filter_said()

    def _rate_line(self) -> str:
        """The rate of the last minute."""
        if not self._rates:
            return ""
        width = 20 if self.size.width >= 110 else 10
        step = RATE_SPAN_S / width
        end = math.ceil(self._rates[-1][0] / step) * step
        return formats.sparkline(formats.buckets(self._rates, width, RATE_SPAN_S, end)).lstrip()

    # --- keys

    def action_toggle_follow(self) -> None:
        """Stop the rows, or follow again."""
        self.log_rows.following = not self.log_rows.following

    def action_calls(self) -> None:
        """Show requests with their replies."""
        self.post_message(OpenCalls(self.queue))

    def action_save(self) -> None:
        """Begin to write a capture, or end it."""
        said = self._saving.toggle(self.queue)
        self.notify(safe_text(said), title="Capture", markup=False)
        self.show_mode()

    def action_refresh_now(self) -> None:
        """Try again at once when watching had ended."""
        super().action_refresh_now()
        if self._trouble is not None:
            self._trouble, self._opened = None, False
            self.show_mode()
            self._watch()


def _coverage(plan: TapPlan) -> Content:
    """Say it all: what a way costs must not be what is cut off."""
    costs = [(f"  costs {safe_text(plan.costs)}", "$text-warning")] if plan.way == "firehose" and plan.costs else []
    return Content.assemble(
        (f"via {plan.way}", "bold $text-primary"),
        *costs,
        (f"  · sees {safe_text(plan.sees)}", ""),
        (f"  · not: {safe_text('; '.join(plan.misses))}", "$muted"),
    )
