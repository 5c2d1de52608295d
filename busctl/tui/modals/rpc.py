"""Call: choose a method, give its arguments, see the reply and how long it took, or why there is none."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from busctl.tui.feed import Feed
from busctl.tui.messages import CallFinished
from busctl.tui.widgets.body_text import body_text
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats
from busctl.views.formats import safe_text
from busctl.views.methods import METHODS as METHODS_VIEW
from busctl_lib import errors
from busctl_lib.errors import BusError
from busctl_lib.schemas import METHODS, Method, coerce, nearest

if TYPE_CHECKING:
    from busctl_lib.rpc import Reply

TIMEOUT_S = 5.0

_FAILURES: tuple[tuple[type[BusError], str], ...] = (
    (errors.NoResponder, "nobody answers"),
    (errors.ReplyTimeout, "no reply in time"),
    (errors.RemoteError, "the other side failed"),
    (errors.InvalidMessage, "not sent"),
    (errors.GuardRefused, "refused here"),
    (errors.OutcomeUnknown, "link lost meanwhile"),
    (errors.CannotConnect, "no connection"),
)
"""What a failure is called; the first that fits."""


class RpcModal(ModalScreen[None]):
    """The call dialog.

    Args:
        feed: The bus.
        line: What stands in the line at first: a method and its arguments.
    """

    CSS_PATH = "rpc.tcss"
    AUTO_FOCUS = "#rpc-line"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close", id="rpc.close"),
        Binding("tab", "app.focus_next", "methods/arguments", id="rpc.next"),
        Binding("ctrl+y", "copy_command", "copy command", id="rpc.copy-command"),
    ]

    def __init__(self, feed: Feed, line: str = "") -> None:
        super().__init__()
        self._feed = feed
        self._line = line
        self._method: Method | None = None
        self._called_at: float | None = None
        self._clock: Timer | None = None

    def compose(self) -> ComposeResult:
        """Methods, the line, the reply."""
        column = METHODS_VIEW.column
        slots = [
            Slot(column=column("name"), least=14, most=24, rank=0),
            Slot(column=column("arguments"), least=20, most=60, rank=1),
            Slot(column=column("queue"), least=12, most=24, rank=3),
            Slot(column=column("help"), least=20, most=50, rank=2),
        ]
        with Vertical(id="rpc-box") as box:
            box.border_title = "Call a method"
            box.border_subtitle = "enter call · tab methods · ctrl+y copy command · esc close"
            yield LiveTable(METHODS_VIEW, slots, key=lambda method: method.name, id="rpc-methods")
            yield Input(
                self._line,
                placeholder="method and arguments: get_orderbook AAPL",
                suggester=SuggestFromList([f"{name} " for name in METHODS], case_sensitive=True),
                select_on_focus=False,
                id="rpc-line",
            )
            yield Static("", id="rpc-hint", markup=False)
            yield Static("", id="rpc-status", markup=False)
            with VerticalScroll(id="rpc-reply"):
                yield Static("", id="rpc-reply-text", markup=False)

    def on_mount(self) -> None:
        """Fill the methods."""
        self.query_one("#rpc-methods", LiveTable).set_rows(list(METHODS.values()))
        self._explain(self._line)

    # --- typing

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._explain(event.value)

    @on(LiveTable.Opened)
    def _chosen(self, event: LiveTable.Opened) -> None:
        line = self.query_one("#rpc-line", Input)
        line.value = f"{event.row.name} "
        line.focus()
        line.cursor_position = len(line.value)

    def _explain(self, text: str) -> None:
        """Say what the method takes, and the command line that does the same."""
        words = _words(text)
        hint = self.query_one("#rpc-hint", Static)
        method = METHODS.get(words[0]) if words else None
        if method is None:
            near = nearest(words[0], METHODS) if words and " " in text else None
            hint.update(Content.styled(f"did you mean {near}?" if near else "", "$muted"))
            return
        takes = method.signature or "no arguments"
        hint.update(Content.styled(f"{takes}   $ {self._feed.command('rpc', *words)}", "$muted"))

    # --- calling

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        words = _words(event.value)
        if not words:
            return
        method = METHODS.get(words[0])
        if method is None:
            near = nearest(words[0], METHODS)
            self._fail("no such method", safe_text(words[0]) + (f", did you mean {near}?" if near else ""))
            return
        try:
            message = coerce(method, words[1:])
        except BusError as error:
            self._show_error(error)
            return
        self._method, self._called_at = method, time.monotonic()
        self.query_one("#rpc-reply-text", Static).update("")
        self._show_waiting()
        self._clock = self._clock or self.set_interval(0.1, self._show_waiting)
        self._call(method.queue, message)

    @work(thread=True, exclusive=True, exit_on_error=False, group="rpc")
    def _call(self, queue: str, message: dict[str, object]) -> None:
        try:
            reply = self._feed.rpc.request(queue, message, TIMEOUT_S)
        except BusError as error:
            finished = CallFinished(None, error)
        else:
            finished = CallFinished(reply, reply.error)
        if not get_current_worker().is_cancelled:  # the end of an earlier call is not shown as the end of this one
            self.post_message(finished)

    @on(CallFinished)
    def _finished(self, message: CallFinished) -> None:
        self._called_at = None
        if message.error is not None:
            self._show_error(message.error, message.reply)
        elif message.reply is not None:
            took = formats.duration(message.reply.round_trip_s)
            queue = self._method.queue if self._method else ""
            size = formats.size(len(message.reply.delivery.body))
            self._show_status(("● replied ", "bold $text-success"), f"in {took} by {queue}, {size}")
        if message.reply is not None:
            self.query_one("#rpc-reply-text", Static).update(body_text(message.reply.delivery.body))
            self.query_one("#rpc-reply").scroll_home(animate=False)

    # --- showing

    def _show_waiting(self) -> None:
        if self._called_at is not None and self._method is not None:
            waited = time.monotonic() - self._called_at
            text = f"{waited:.1f} s for {self._method.queue}, at most {TIMEOUT_S:g} s"
            self._show_status(("… waiting ", "bold $text-primary"), text)

    def _show_error(self, error: BusError, reply: Reply | None = None) -> None:
        word = next((word for kind, word in _FAILURES if isinstance(error, kind)), "failed")
        took = f" (after {formats.duration(reply.round_trip_s)})" if reply is not None else ""
        self._fail(word, safe_text(str(error).removeprefix(f"{word}: ")) + took, safe_text(error.hint or ""))

    def _fail(self, word: str, text: str, hint: str = "") -> None:
        self._show_status((f"✖ {word}: ", "bold $text-error"), text)
        self.query_one("#rpc-reply-text", Static).update(Content.styled(hint, "$muted"))

    def _show_status(self, *parts: str | tuple[str, str]) -> None:
        self.query_one("#rpc-status", Static).update(Content.assemble(*parts))

    def action_copy_command(self) -> None:
        """Copy the command line that makes this call."""
        command = self._feed.command("rpc", *_words(self.query_one("#rpc-line", Input).value))
        self.app.copy_to_clipboard(command)
        self.notify(safe_text(command, 200), title="Copied", markup=False)


def _words(text: str) -> list[str]:
    """Split as a shell would; while a quote is open, at the blanks."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
