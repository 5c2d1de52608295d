"""RPC: choose a method, give its arguments, see the reply and how long it took, or why there is none."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from busctl.tui.feed import Feed
from busctl.tui.messages import CallFinished
from busctl.tui.rpc_history import CALLS
from busctl.tui.screens.place import Place
from busctl.tui.widgets.body_text import body_text
from busctl.tui.widgets.method_form import MethodForm
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats
from busctl.views.formats import safe_text
from busctl.views.methods import METHODS as METHODS_VIEW
from busctl_lib import errors
from busctl_lib.codecs import Body
from busctl_lib.documents import body_of
from busctl_lib.errors import BusError
from busctl_lib.methods import Method, coerce
from busctl_lib.validation import nearest

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


class _Line(Input):
    """No method begins with a colon: that one is for the command bar."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return (character != ":" or bool(self.value)) and super().check_consume_key(key, character)


class RpcScreen(Place):
    """The workbench for calls.

    Args:
        feed: The bus.
        line: What stands in the line at first: a method and its arguments.
    """

    CSS_PATH = "rpc.tcss"
    AUTO_FOCUS = "#rpc-line"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "next field", id="rpc.next"),
        Binding("ctrl+y", "copy_command", "copy command", id="rpc.copy-command"),
        Binding("ctrl+o", "copy_reply", "copy reply", id="rpc.copy-reply", show=False, tooltip="Copy the reply."),
    ]

    def __init__(self, feed: Feed, line: str = "") -> None:
        super().__init__(feed)
        self._line = line
        self._methods = feed.methods
        self._words: list[str] = []
        self._called: Method | None = None
        self._called_at: float | None = None
        self._clock: Timer | None = None
        self._reply: Body | None = None

    @property
    def crumb(self) -> str:
        """RPC."""
        return "rpc"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("rpc", *_words(self._line)) if self._line.strip() else ""

    def compose_place(self) -> ComposeResult:
        """Methods, the line and its form, the reply, what was called before."""
        column = METHODS_VIEW.column
        slots = [
            Slot(column=column("name"), least=14, most=24, rank=0),
            Slot(column=column("arguments"), least=20, most=60, rank=1),
            Slot(column=column("queue"), least=12, most=24, rank=3),
            # A sentence is read from its beginning, unlike a name.
            Slot(
                column=column("help"), least=20, most=50, rank=2, draw=lambda info, width: safe_text(info.help, width)
            ),
        ]
        example = safe_text(" ".join(f"{each.name} {each.signature}" for each in [*self._methods.values()][:1]), 60)
        with Container(id="rpc-grid"):
            with Vertical(classes="panel", id="rpc-methods-panel") as methods:
                methods.border_title = "Methods"
                yield LiveTable(METHODS_VIEW, slots, key=lambda method: method.name, id="rpc-methods")
            with Vertical(classes="panel", id="rpc-call") as call:
                call.border_title = "Call"
                call.border_subtitle = "enter calls it"
                yield _Line(
                    self._line,
                    placeholder=f"method and arguments: {example}",
                    suggester=SuggestFromList([f"{name} " for name in self._methods], case_sensitive=True),
                    select_on_focus=False,
                    id="rpc-line",
                )
                yield MethodForm(id="rpc-form")
                yield Static("", id="rpc-hint", markup=False)
                yield Static("", id="rpc-status", markup=False)
            with Vertical(classes="panel", id="rpc-reply-panel") as reply:
                reply.border_title = "Reply"
                with VerticalScroll(id="rpc-reply"):
                    yield Static("", id="rpc-reply-text", markup=False)
            with Vertical(classes="panel", id="rpc-calls-panel") as calls:
                calls.border_title = "Calls of this session"
                yield Static("", id="rpc-figures", markup=False)
                yield self._calls_table()

    @staticmethod
    def _calls_table() -> LiveTable[Any]:
        slots = [
            Slot(column=CALLS.column("number"), least=4, rank=3),
            Slot(column=CALLS.column("call"), least=20, most=60, rank=0),
            Slot(column=CALLS.column("outcome"), least=12, most=24, rank=1),
            Slot(column=CALLS.column("took"), least=7, rank=2),
        ]
        return LiveTable(CALLS, slots, key=lambda call: call.number, sort="-number", empty="None yet.", id="rpc-calls")

    def on_mount(self) -> None:
        """Fill the methods."""
        self.query_one("#rpc-methods", LiveTable).set_rows(list(self._methods.values()))
        self._show_calls()
        if self.feed.bus_file_trouble:
            self._fail("bus file", safe_text(self.feed.bus_file_trouble))

    # --- typing

    @on(Input.Changed, "#rpc-line")
    async def _line_typed(self, event: Input.Changed) -> None:
        await self._explain(event.value)

    @on(MethodForm.Edited)
    def _form_edited(self, event: MethodForm.Edited) -> None:
        self._set_line(event.line)

    @on(LiveTable.Opened)
    def _chosen(self, event: LiveTable.Opened) -> None:
        of_history = event.table.id == "rpc-calls"
        self._set_line(event.row.line if of_history else f"{event.row.name} ")
        self.query_one("#rpc-line").focus()

    def _set_line(self, text: str) -> None:
        line = self.query_one("#rpc-line", Input)
        line.value = text
        line.cursor_position = len(text)

    async def _explain(self, text: str) -> None:
        """Say what the method takes, and show its fields."""
        self._line = text
        self.refresh_way()
        words = _words(text)
        hint = self.query_one("#rpc-hint", Static)
        method = self._methods.get(words[0]) if words else None
        await self.query_one(MethodForm).show(method, words[1:])
        self.query_one("#rpc-figures", Static).update(
            Content.styled(self.feed.rpc_history.figures(method.name) if method else "", "$muted")
        )
        if method is None:
            near = nearest(words[0], self._methods) if words and " " in text else None
            hint.update(Content.styled(f"did you mean {near}?" if near else "", "$muted"))
            return
        takes = method.signature or "no arguments"
        hint.update(Content.styled(f"{safe_text(takes)}   → {safe_text(method.target)}", "$muted"))

    # --- calling

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        words = _words(event.value if event.input.id == "rpc-line" else self._line)
        if not words:
            return
        method = self._methods.get(words[0])
        self._words = words
        if method is None:
            near = nearest(words[0], self._methods)
            self._fail("no such method", safe_text(words[0]) + (f", did you mean {near}?" if near else ""))
            return
        try:
            message = coerce(method, words[1:])
        except BusError as error:
            self._show_error(error)
            return
        self._called, self._called_at = method, time.monotonic()
        self._show_reply(None)
        self._show_waiting()
        self._clock = self._clock or self.set_interval(0.1, self._show_waiting)
        self._call(method, message)

    @work(thread=True, exclusive=True, exit_on_error=False, group="rpc")
    def _call(self, method: Method, message: object) -> None:
        caller = self.feed.session.caller
        reply: Reply | None = None
        try:
            reply = caller.request(method, message, method.timeout_s or TIMEOUT_S)
            finished = CallFinished(reply, caller.failure(method, reply))
        except BusError as error:
            finished = CallFinished(reply, error)
        if not get_current_worker().is_cancelled:  # the end of an earlier call is not shown as the end of this one
            self.post_message(finished)

    @on(CallFinished)
    def _finished(self, message: CallFinished) -> None:
        self._called_at = None
        reply, outcome = message.reply, "replied"
        if message.error is not None:
            outcome = self._show_error(message.error, reply)
        elif reply is not None:
            took = formats.duration(reply.round_trip_s)
            target = safe_text(self._called.target) if self._called else ""
            self._show_status(
                ("● replied ", "bold $text-success"), f"in {took} by {target}, {formats.size(len(reply.delivery.body))}"
            )
        if reply is not None:
            self._show_reply(body_of(reply.delivery))
        self.feed.rpc_history.add(self._words, outcome, reply.round_trip_s if reply is not None else None)
        self._show_calls()

    # --- showing

    def _show_calls(self) -> None:
        self.query_one("#rpc-calls", LiveTable).set_rows(self.feed.rpc_history.calls)
        figures = self.feed.rpc_history.figures(self._words[0]) if self._words else ""
        self.query_one("#rpc-figures", Static).update(Content.styled(safe_text(figures), "$muted"))

    def _show_reply(self, body: Body | None) -> None:
        self._reply = body
        self.query_one("#rpc-reply-text", Static).update(body_text(body) if body is not None and body.data else "")
        self.query_one("#rpc-reply").scroll_home(animate=False)

    def _show_waiting(self) -> None:
        if self._called_at is not None and self._called is not None:
            waited = time.monotonic() - self._called_at
            most = self._called.timeout_s or TIMEOUT_S
            self._show_status(
                ("… waiting ", "bold $text-primary"),
                f"{waited:.1f} s for {safe_text(self._called.target)}, at most {most:g} s",
            )

    def _show_error(self, error: BusError, reply: Reply | None = None) -> str:
        word = next((word for kind, word in _FAILURES if isinstance(error, kind)), "failed")
        took = f" (after {formats.duration(reply.round_trip_s)})" if reply is not None else ""
        self._fail(word, safe_text(str(error).removeprefix(f"{word}: ")) + took, safe_text(error.hint or ""))
        return word

    def _fail(self, word: str, text: str, hint: str = "") -> None:
        self._show_status((f"✖ {word}: ", "bold $text-error"), text)
        self.query_one("#rpc-reply-text", Static).update(Content.styled(hint, "$muted"))

    def _show_status(self, *parts: str | tuple[str, str]) -> None:
        self.query_one("#rpc-status", Static).update(Content.assemble(*parts))

    # --- keys

    def action_copy_reply(self) -> None:
        """Copy the reply."""
        body = self._reply
        if body is not None and body.data:
            self.app.copy_to_clipboard(body.printed)
            self.notify(f"{formats.size(len(body.data))} copied", markup=False)


def _words(text: str) -> list[str]:
    """Split as a shell would; while a quote is open, at the blanks."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
