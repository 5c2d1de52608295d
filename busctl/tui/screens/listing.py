"""Listing: any noun as a live list, asked about while it is in front."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.worker import get_current_worker

from busctl.tui.feed import Feed
from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import Listed
from busctl.tui.nouns import Noun
from busctl.tui.screens.table_place import TablePlace
from busctl.tui.widgets.slots import Slot
from busctl.tui.widgets.table import LiveTable
from busctl.views import formats
from busctl_lib.errors import ApiForbidden, BusError, NotFound

BEAT_S = 2.0
MAX_BEAT_S = 60.0
SHARE = 4
"""The API is left alone for this many times as long as it was kept busy."""


class ListScreen(TablePlace[Any]):
    """The list of a noun. What was seen last stays when the API goes away, greyed and with its age.

    Args:
        feed: The bus.
        noun: What is listed.
        filtered: What to narrow it to at first.
        of: What the list belongs to, for the breadcrumbs, safe to show.
        only: Which rows belong to it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "jump('replay')", "replay", id="list.replay", tooltip="Plan to replay all that waits there."),
        Binding("c", "jump('connection')", "connection", id="list.connection", tooltip="Go to its connection."),
        Binding("e", "jump('exchange')", "exchange", id="list.exchange", tooltip="Go to its exchange."),
        Binding("o", "jump('queue')", "queue", id="list.queue", tooltip="Go to the queue itself."),
        Binding("f", "jump('source')", "source", id="list.source", tooltip="Go to the queue they died in."),
        Binding(
            "T", "jump('topology')", "topology", id="list.topology", tooltip="See what feeds it and where it leads."
        ),
        Binding("u", "jump('undo')", "undo", id="list.undo", tooltip="Plan to put back what the operation did."),
        Binding("R", "jump('resume')", "resume", id="list.resume", tooltip="Go on with an interrupted operation."),
        Binding("a", "all", "all brokers", id="list.all", tooltip="Those of other brokers too, or of this one alone."),
    ]

    def __init__(
        self,
        feed: Feed,
        noun: Noun[Any],
        filtered: Filter = EVERYTHING,
        *,
        of: str = "",
        only: Callable[[Any], bool] | None = None,
    ) -> None:
        self.noun = noun
        super().__init__(feed, noun.view, filtered, of=of, only=only)
        known = feed.lists.get(noun.view.noun) if noun.kept else None
        self._rows: Sequence[Any] | None = None if known is None else self.belonging(known)
        self._everywhere = False
        self._error: BusError | None = None
        self._taken_at: float | None = None
        self._wake = threading.Event()
        self._in_front = threading.Event()

    # --- what a table place asks

    @property
    def command_line(self) -> str:
        """The same as a command."""
        if self.noun.words:
            return self.feed.command(self.view.noun, *self.noun.words)
        return self.feed.command(self.noun.command) if self.noun.command else super().command_line

    @property
    def empty(self) -> str:
        """Why there is nothing."""
        if isinstance(self._error, ApiForbidden):
            return formats.safe_text(f"needs the {self.noun.tag} tag; {self._error.hint or 'ask for it'}", 120)
        if isinstance(self._error, NotFound):
            return formats.safe_text(f"{self._error}; {self._error.hint or ''}")
        if self._error is not None:
            hint = f"; {self._error.hint}" if self._error.hint else ""
            return formats.safe_text(f"cannot be asked: {self._error}{hint}")
        return self.noun.empty or super().empty

    @property
    def first_sort(self) -> str | None:
        """The order at first."""
        return self.view.sort if self.noun.sort == "" else self.noun.sort

    @property
    def crumb(self) -> str:
        """The noun, and what it belongs to."""
        return f"{super().crumb} of all brokers" if self._everywhere else super().crumb

    @property
    def counted_as(self) -> str:
        """What the rows are."""
        return self.noun.counted or self.view.noun

    def slots(self, *, wide: bool) -> list[Slot[Any]]:
        """The columns of the noun."""
        return self.noun.slots(wide=wide)

    def key(self, row: Any) -> Hashable:
        """What tells one row from another."""
        return self.noun.key(row)

    def label(self, row: Any) -> str:
        """What `/text` looks at."""
        return self.noun.label(row)

    def known_rows(self) -> Sequence[Any] | None:
        """What was listed last; of this broker alone, as long as no more is asked for."""
        here = self.noun.here
        if self._rows is None or here is None or self._everywhere:
            return self._rows
        return [row for row in self._rows if here(self.feed, row)]

    # --- asking: the worker never touches a widget

    def on_mount(self) -> None:
        """Show what is known, and ask."""
        self._in_front.set()
        self.show_filtered()
        self._ask()

    def on_unmount(self) -> None:
        """Ask no more."""
        self._wake.set()
        self._in_front.set()

    def on_screen_suspend(self) -> None:
        """What nobody sees costs the broker nothing."""
        self._in_front.clear()

    def on_screen_resume(self) -> None:
        """Ask again."""
        self._in_front.set()
        self._wake.set()

    @work(thread=True, exclusive=True, exit_on_error=False, group="list")
    def _ask(self) -> None:
        worker = get_current_worker()
        while not worker.is_cancelled:
            started = time.monotonic()
            self._wake.clear()
            try:
                listed = Listed(self.noun.fetch(self.feed.session))
            except BusError as error:
                listed = Listed(None, error)
            if worker.is_cancelled:
                return
            self.post_message(listed)
            self._wake.wait(min(max(BEAT_S, SHARE * (time.monotonic() - started)), MAX_BEAT_S))
            while not self._in_front.wait(1.0) and not worker.is_cancelled:
                pass

    @on(Listed)
    def _take(self, message: Listed) -> None:
        self._error = message.error
        self.query_one("#place").set_class(message.error is not None and self._rows is not None, "-stale")
        if message.rows is not None:
            if self.noun.kept:
                self.feed.lists[self.view.noun] = message.rows
                self.feed.listed_at[self.view.noun] = time.monotonic()
            self._rows, self._taken_at = self.belonging(message.rows), time.monotonic()
            self.show_filtered()
        elif self._rows is None:
            self.table.empty = self.empty
            self.table.set_rows(())
        else:
            taken_at = self._taken_at or self.feed.listed_at.get(self.view.noun)
            age = formats.age(time.monotonic() - taken_at) if taken_at is not None else "earlier"
            self.say_facts(f"last seen {age}")

    # --- keys

    @on(LiveTable.Opened)
    def _open(self, event: LiveTable.Opened) -> None:
        message = self.noun.opens(event.row) if self.noun.opens is not None else None
        if message is not None:
            self.post_message(message)
        else:
            self.action_describe()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only some rows lead elsewhere."""
        if action == "jump":
            return parameters[0] in self.noun.jumps
        if action == "all":
            return self.noun.here is not None
        return super().check_action(action, parameters)

    def action_jump(self, where: str) -> None:
        """Go to what belongs to the row under the cursor."""
        row = self.table.row
        if row is not None and (message := self.noun.jumps[where](row)) is not None:
            self.post_message(message)

    def action_all(self) -> None:
        """Show those of other brokers too, or of this one alone."""
        self._everywhere = not self._everywhere
        self.refresh_way()
        self.show_filtered()

    def action_refresh_now(self) -> None:
        """Ask now."""
        super().action_refresh_now()
        self._wake.set()
