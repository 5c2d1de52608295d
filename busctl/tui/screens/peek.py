"""Peek: a look at what waits in a queue, within its peek budget. It is never repeated by itself."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from busctl.tui.feed import Feed
from busctl.tui.messages import PeekEnded
from busctl.tui.refusals import hint_of
from busctl.tui.screens.messages_place import MessagesPlace
from busctl.views import formats
from busctl.views.formats import safe_text
from busctl_lib.errors import BusError, GuardRefused

COUNT = 20
"""Messages of one look."""


class PeekScreen(MessagesPlace):
    """One look. Another costs the queue another, so it must be asked for.

    Args:
        feed: The bus.
        queue: Where to look.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "look", "look again", id="peek.look", tooltip="Look again; within the peek budget."),
        Binding(
            "D",
            "look_delaying",
            "look and delay",
            id="peek.delay",
            show=False,
            tooltip="Look also where delayed retry hides for a while what is given back.",
        ),
    ]
    clock = staticmethod(time.monotonic)

    def __init__(self, feed: Feed, queue: str) -> None:
        super().__init__(feed)
        self.queue = queue
        self._looking = self._accept_delay = False
        self._looked_at: float | None = None
        self._account = Content("")

    @property
    def crumb(self) -> str:
        """Peek and the queue."""
        return f"peek {safe_text(self.queue, 60)}"

    @property
    def command_line(self) -> str:
        """The same as a command."""
        return self.feed.command("peek", self.queue, "-n", str(COUNT), *["--accept-delay"] * self._accept_delay)

    def compose_head(self) -> ComposeResult:
        """What looking did to the queue."""
        yield Static("", id="peek-account", markup=False)

    def on_mount(self) -> None:
        """Look once."""
        self.log_rows.following = False
        self.set_interval(1.0, self.show_mode)
        self.action_look()

    def action_look(self) -> None:
        """Look, unless a look is under way."""
        if not self._looking:
            self._looking = True
            self._look()
            self.show_mode()

    def action_look_delaying(self) -> None:
        """Look although that hides messages for a while."""
        self._accept_delay = True
        self.refresh_way()
        self.action_look()

    @work(thread=True, exclusive=True, exit_on_error=False, group="peek")
    def _look(self) -> None:
        from busctl_lib.taps.peek import peek

        session = self.feed.session
        with self.feed.held:
            try:
                found = peek(
                    session.broker,
                    session.management,
                    session.vhost,
                    self.queue,
                    COUNT,
                    accept_delay=self._accept_delay,
                )
            except BusError as error:
                self.post_message(PeekEnded(None, error))
            else:
                self.post_message(PeekEnded(found, None))

    @on(PeekEnded)
    def _show(self, message: PeekEnded) -> None:
        self._looking = False
        error, found = message.error, message.peeked
        if error is not None:
            word = "refused: " if isinstance(error, GuardRefused) else ""
            hint = f"  {safe_text(hint_of(error))}" if error.hint else ""
            self._account = Content.assemble(
                ("✖ ", "bold $text-error"), f"{word}{safe_text(str(error))}", (hint, "$muted")
            )
        elif found is not None:
            self._looked_at = self.clock()
            waiting = f"{formats.count(found.ready)} waited"
            waiting += f", {formats.count(found.delayed)} delayed" if found.delayed else ""
            self._account = Content.assemble(
                (f"{len(found.messages)} of {waiting}", "bold"), f"  {safe_text(found.account)}"
            )
            self.log_rows.replace(found.messages)
            self.log_rows.focus()
        self.show_mode()

    def show_mode(self) -> None:
        """Say what looking did, and how old this is."""
        if self._looking:
            text = Content.styled("○ looking …", "$muted")
        else:
            text = self._account
            if self._looked_at is not None:
                text += Content.styled(f"  · {formats.age(self.clock() - self._looked_at)}, not repeated", "$muted")
            text += self.filter_said()
        self.query_one("#peek-account", Static).update(text)
