"""Place: what all screens of the console share: the state line, the way one came, the prompt and the keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from busctl.tui import commands
from busctl.tui.feed import Feed
from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import RunCommand
from busctl.tui.theme import THEMES
from busctl.tui.widgets.key_line import KeyLine
from busctl.tui.widgets.path_line import PathLine
from busctl.tui.widgets.prompt import Kind, Prompt
from busctl.tui.widgets.state_line import StateLine
from busctl.views import formats
from busctl_lib.poller import Snapshot


class Place(Screen[None]):
    """One place of the console. A lost broker is a state: what was seen last stays, greyed."""

    AUTO_FOCUS = "LiveTable"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - as the base class has it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (18, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "up", "back", id="place.up", tooltip="Clear the filter, or go up to where you came from."),
        Binding(
            "exclamation_mark",
            "copy_command",
            "copy command",
            id="place.copy-command",
            show=False,
            tooltip="Copy the command line that shows the same in a shell.",
        ),
        Binding("ctrl+r", "refresh_now", "refresh", id="place.refresh", show=False, tooltip="Ask the broker now."),
    ]
    FILTERS: ClassVar[bool] = False
    """Whether `/` narrows what is shown here."""
    PARTS: ClassVar[frozenset[str]] = frozenset()
    """Parts of a snapshot without which it is out of date, as `Snapshot.missing` names them."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed
        self.filter = EVERYTHING
        self._all_there = False
        """Whether all widgets are there."""

    @property
    def is_current(self) -> bool:
        """Whether anything of it is seen.

        Textual takes the screen just below another for seen, whatever covers it; each change there would draw all of
        the one above again.
        """
        return super().is_current and next(_places(reversed(self.app.screen_stack))) is self

    # --- for each place

    @property
    def crumb(self) -> str:
        """The place's name in the breadcrumbs, safe to show."""
        raise NotImplementedError

    @property
    def command_line(self) -> str:
        """What shows the same in a shell; "" when nothing does."""
        return ""

    def compose_place(self) -> ComposeResult:
        """Give the widgets in the middle."""
        raise NotImplementedError

    def knows(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot has what is shown here."""
        return snapshot.taken_at is not None

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Show what a beat brought; also called when the place comes to the front."""

    def show_unknown(self, text: str) -> None:
        """Say why nothing was seen yet."""

    def show_filtered(self) -> None:
        """Show what passes the filter."""

    # --- shared

    def compose(self) -> ComposeResult:
        """State line, way and prompt, the place, keys."""
        feed = self.feed
        where = "" if feed.session.vhost == "/" else feed.session.vhost
        self.set_class(feed.session.settings.production, "-production")
        yield StateLine(feed.context, where=where, guard=feed.guard, color=feed.session.settings.color)
        yield PathLine()
        yield Prompt(self._complete)
        with Container(id="place"):
            yield from self.compose_place()
        yield KeyLine()

    def on_mount(self) -> None:
        """Show what is known already."""
        self._all_there = True
        self.refresh_way()
        self.take_snapshot(self.feed.snapshot)

    def on_screen_resume(self) -> None:
        """Catch up with what happened while another place was in front."""
        self.refresh_way()
        self.take_snapshot(self.feed.snapshot)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """Show a snapshot, or that there is none."""
        if not self._all_there or not snapshot.sequence:
            return
        self.query_one(StateLine).show(snapshot)
        absent = [error for part, error in snapshot.missing.items() if part in self.PARTS]
        error = snapshot.error or (absent[0] if absent else None)
        self.query_one("#place").set_class(error is not None, "-stale")
        if self.knows(snapshot):
            self.show_snapshot(snapshot)
        elif error is not None:
            hint = f"; {error.hint}" if error.hint else ""
            self.show_unknown(formats.safe_text(f"nothing is known yet: {error}{hint}"))

    def refresh_way(self) -> None:
        """Draw the breadcrumbs, the filter and the command line again."""
        stack = list(_places(self.app.screen_stack))
        crumbs = [screen.crumb for screen in stack] if self in stack else [self.crumb]
        line = self.query_one(PathLine)
        line.show(crumbs)
        line.filtered = formats.safe_text(self.filter.text, 40)
        line.command = formats.safe_text(self.command_line)

    def say_facts(self, text: str) -> None:
        """Put a few words on the right of the breadcrumbs."""
        self.query_one(PathLine).facts = text

    def set_filter(self, chosen: Filter) -> None:
        """Narrow what is shown."""
        self.filter = chosen
        self.refresh_bindings()
        self.refresh_way()
        self.show_filtered()

    def take_filter(self, chosen: Filter) -> None:
        """A filter was entered; where it was shown while it was typed, that is all."""
        self.set_filter(chosen)

    def _complete(self, line: str) -> str | None:
        return self.feed.history.suggestion(line) or commands.complete(line, self._names, self.feed.console.aliases)

    def _names(self, kind: str) -> Iterable[str]:
        """The names of a kind, as far as they are known here."""
        match kind:
            case "queue":
                return [name for _, name in self.feed.snapshot.queues]
            case "method":
                return self.feed.methods
            case "theme":
                return [theme.name.removeprefix("busctl-") for theme in THEMES]
            case "context":
                return self.feed.context_names
        return [info.name for info in self.feed.lists.get(f"{kind}s", ())]

    # --- prompt

    def open_prompt(self, kind: Kind, text: str = "") -> None:
        """Begin to type a command or a filter, `text` being typed already."""
        self.query_one(PathLine).display = False
        lines = self.feed.history.lines if kind == ":" else ()
        self.query_one(Prompt).open(kind, self.filter.text if kind == "/" else text, lines)

    @on(Prompt.Changed)
    def _typed(self, event: Prompt.Changed) -> None:
        if event.kind == "/":
            try:
                self.set_filter(Filter(event.text))
            except ValueError as error:
                self.query_one(Prompt).trouble(str(error))

    @on(Prompt.Submitted)
    def _entered(self, event: Prompt.Submitted) -> None:
        try:
            if event.kind == "/":
                self.take_filter(Filter(event.text))
            elif event.text.strip():
                commands.parse(event.text, self.feed.console.aliases)
        except ValueError as error:
            self.query_one(Prompt).trouble(str(error))
            return
        finally:
            behind = self.query_one(Prompt).typed_behind()
        self._close_prompt()
        if event.kind == ":" and event.text.strip():
            self.feed.history.add(event.text.strip())
            self.post_message(RunCommand(event.text))
        for key in behind:  # behind what the command opens
            self.call_later(self.app.call_later, self.app.post_message, key)

    @on(Prompt.Left)
    def _left(self, event: Prompt.Left) -> None:
        self.query_one(PathLine).display = True
        if event.kind == "/":
            self.set_filter(EVERYTHING)

    def _close_prompt(self) -> None:
        self.query_one(Prompt).close()
        self.query_one(PathLine).display = True

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        """A fault of ours must not look like a broker that says nothing."""
        if event.state is WorkerState.ERROR:
            said = formats.safe_text(repr(event.worker.error), 300)
            self.notify(said, title="A fault of busctl", severity="error", timeout=30, markup=False)

    @on(PathLine.Chosen)
    def _go_up(self, event: PathLine.Chosen) -> None:
        with self.app.batch_update():
            for _ in range(event.up):
                self.app.pop_screen()

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """From the first place nothing leads up."""
        if action == "copy_command":
            return bool(self.command_line)
        if action == "up":
            return bool(self.filter) or self._is_above_another()
        return super().check_action(action, parameters)

    def _is_above_another(self) -> bool:
        return len(list(_places(self.app.screen_stack))) > 1

    def action_up(self) -> None:
        """Clear the filter, else go up."""
        if self.filter:
            self.set_filter(EVERYTHING)
        elif self._is_above_another():
            self.app.pop_screen()

    def action_copy_command(self) -> None:
        """Copy the command line."""
        if self.command_line:
            self.app.copy_to_clipboard(self.command_line)
            self.notify(formats.safe_text(self.command_line, 200), title="Copied", markup=False)

    def action_refresh_now(self) -> None:
        """Ask the broker now."""
        self.feed.poller.refresh()


def _places(screens: Iterable[object]) -> Iterator[Place]:
    return (screen for screen in screens if isinstance(screen, Place))
