"""Going to another broker or virtual host without leaving the console."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from textual import on, work

from busctl.config import Flags, resolve
from busctl.session import Session
from busctl.tui.feed import Feed, Held
from busctl.tui.messages import RunCommand, SessionOpened, SwitchFailed, SwitchTo, SwitchVhost
from busctl.tui.screens.overview import OverviewScreen
from busctl.tui.working import Working
from busctl.views.formats import safe_text
from busctl_lib.errors import BusError, ConfigError

if TYPE_CHECKING:
    from busctl.config import Settings
    from busctl_lib.poller import Snapshot


class Switching(Working):
    """The part of the console that changes whom it looks at."""

    feed: Feed

    def __init__(self) -> None:
        # Where no colour is wanted, none of ours either: Textual alone would turn them into greys.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") is not None else None)
        self.held = Held()
        self._own: list[Session] = []
        """Sessions that were opened here."""
        self._steps: deque[tuple[Settings, str]] = deque(maxlen=2)
        """Where the last two commands led, and at whom they looked."""

    def step(self, line: str) -> None:
        """Remember where a command led, for the way back."""
        here = (self.feed.session.settings, line)
        self._steps = deque([*(step for step in self._steps if step != here), here], maxlen=2)

    def action_step_back(self) -> None:
        """Go back to where the command before the last one led, also at another broker."""
        if len(self._steps) < 2:
            self.notify("no command before this one", severity="warning", markup=False)
            return
        settings, line = self._steps[0]
        if settings == self.feed.session.settings:
            self.post_message(RunCommand(line))
        else:
            self._open_session(settings, line)

    def _on_beat(self, feed: Feed, snapshot: Snapshot) -> None:
        raise NotImplementedError

    @on(SwitchTo)
    def _switch_context(self, message: SwitchTo) -> None:
        try:
            settings = resolve(Flags(context=message.context))
        except ConfigError as error:
            self.post_message(SwitchFailed(error))
            return
        if settings.password is not None and settings.password.kind == "prompt":
            from busctl.tui.modals.password import PasswordModal

            def with_given(given: str | None) -> None:
                if given is not None:
                    self._open_session(settings.with_password(given), message.line)

            self.push_screen(PasswordModal(settings.password.given), with_given)
            return
        self._open_session(settings, message.line)

    @on(SwitchVhost)
    def _switch_vhost(self, message: SwitchVhost) -> None:
        before = self.feed.session.settings
        parts = urlsplit(before.amqp_url)
        amqp_url = urlunsplit(parts._replace(path=f"/{quote(message.vhost, safe='')}"))
        sources = {**before.sources, "vhost": "chosen in the console"}
        self._open_session(replace(before, amqp_url=amqp_url, vhost=message.vhost, sources=sources), "queues")

    @work(thread=True, exclusive=True, exit_on_error=False, group="switch")
    def _open_session(self, settings: Settings, line: str) -> None:
        try:
            # It may run a command that knows the password.
            session = Session(settings, bus_file=self.feed.session.bus_file)
            _ = session.broker, session.management
        except BusError as error:
            self.post_message(SwitchFailed(error))
        else:
            self.post_message(SessionOpened(session, line))

    @on(SwitchFailed)
    def _say_failed(self, message: SwitchFailed) -> None:
        hint = f"; {message.error.hint}" if message.error.hint else ""
        self.notify(safe_text(f"{message.error}{hint}"), title="Not switched", severity="error", markup=False)

    @on(SessionOpened)
    def _begin_anew(self, message: SessionOpened) -> None:
        before = self.feed
        before.stop(0.0)
        self.feed = Feed(message.session, self._on_beat, before.console, before.held)
        self._own.append(message.session)
        with self.batch_update():
            while len(self.screen_stack) > 1:
                self.pop_screen()
            self.push_screen(OverviewScreen(self.feed))
        self.feed.start()
        if message.line:
            self.post_message(RunCommand(message.line))
        else:
            self.step("overview")
        self._close_session(before)

    @work(thread=True, exit_on_error=False, group="close")
    def _close_session(self, feed: Feed) -> None:
        # Where an operation goes on, its session stays until the console ends.
        if feed.held.wait(10) and feed.session in self._own:
            feed.session.close()

    def close_sessions(self) -> None:
        """Close what was opened here."""
        for session in self._own:
            session.close()
