"""The console: one app, one feed, a stack of places."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.widgets import Input

from busctl.tui import commands
from busctl.tui.feed import Feed
from busctl.tui.messages import OpenQueue, OpenRpc, OpenTail, RunCommand, SnapshotTaken, TapTold
from busctl.tui.modals.help import HelpModal, live_keys
from busctl.tui.screens.overview import OverviewScreen
from busctl.tui.screens.place import Place
from busctl.tui.screens.queue import QueueScreen
from busctl.tui.screens.queues import QueuesScreen
from busctl.tui.theme import THEMES
from busctl.views.formats import safe_text

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl_lib.poller import Snapshot


class ConsoleApp(App[None]):
    """The console of one session.

    Args:
        session: Whose broker to look at. It is not closed here.
    """

    TITLE = "busctl"
    CSS_PATH = "screens/place.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "overview", "overview", id="app.overview", show=False, tooltip="Go to the overview."),
        Binding("2", "queues", "queues", id="app.queues", show=False, tooltip="Go to the queues."),
        Binding("3", "rpc", "rpc", id="app.rpc", show=False, tooltip="Call a method and see its reply."),
        # Before any widget sees the key: letters typed right behind these belong to the prompt.
        Binding(
            "colon",
            "prompt(':')",
            "command",
            id="app.command",
            key_display=":",
            tooltip="Type a command.",
            priority=True,
        ),
        Binding(
            "slash",
            "prompt('/')",
            "filter",
            id="app.filter",
            key_display="/",
            tooltip="Narrow what is shown.",
            priority=True,
        ),
        Binding("question_mark", "help", "help", id="app.help", key_display="?", tooltip="Keys and commands."),
        Binding("q", "quit", "quit", id="app.quit", tooltip="Leave the console."),
        Binding("ctrl+c", "quit", "quit", id="app.interrupt", show=False, system=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.feed = Feed(session, self._on_beat)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name

    def _on_beat(self, snapshot: Snapshot) -> None:
        """Runs on the poller's thread."""
        self.post_message(SnapshotTaken(snapshot))

    def on_mount(self) -> None:
        """Show the overview at once, and begin to ask."""
        self.push_screen(OverviewScreen(self.feed))
        self.feed.poller.start()

    def on_unmount(self) -> None:
        """Stop asking."""
        self.feed.poller.stop()

    @on(SnapshotTaken)
    def _show(self, message: SnapshotTaken) -> None:
        self.feed.snapshot = message.snapshot
        if (place := self.place) is not None:
            place.take_snapshot(message.snapshot)

    @property
    def place(self) -> Place | None:
        """The place in front, below any question."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Place)), None)

    # --- ways

    def _go(self, *places: Place) -> None:
        """Go to a place by its own way: overview, then these."""
        with self.batch_update():
            while len(self.screen_stack) > 1 and not isinstance(self.screen, OverviewScreen):
                self.pop_screen()
            for place in places:
                self.push_screen(place)

    def action_overview(self) -> None:
        """Go to the overview."""
        self._go()

    def action_queues(self, glob: str = "") -> None:
        """Go to the queues."""
        if glob or not isinstance(self.screen, QueuesScreen):
            self._go(QueuesScreen(self.feed, glob))

    def action_rpc(self) -> None:
        """Open the call dialog."""
        self.open_rpc("")

    def action_prompt(self, kind: str) -> None:
        """Open the command bar or the filter."""
        if isinstance(self.screen, Place):
            self.screen.open_prompt(":" if kind == ":" else "/")

    def action_help(self) -> None:
        """Show the keys of the place in front."""
        self.push_screen(HelpModal(live_keys(self.screen)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only places have a prompt, and only some a filter."""
        if action == "prompt":
            place = self.screen
            if not isinstance(place, Place) or isinstance(place.focused, Input):
                return False
            return parameters[0] == ":" or place.FILTERS
        if action in ("overview", "queues", "rpc", "help"):
            return isinstance(self.screen, Place)
        return super().check_action(action, parameters)

    @on(OpenQueue)
    def _open_queue(self, message: OpenQueue) -> None:
        self.push_screen(QueueScreen(self.feed, (message.vhost, message.name)))

    @on(OpenTail)
    def _open_tail(self, message: OpenTail) -> None:
        from busctl.tui.screens.tail import TailScreen

        self.push_screen(TailScreen(self.feed, message.queue))

    @on(TapTold)
    def _tell(self, message: TapTold) -> None:
        self.notify(safe_text(message.text), title="Tail", severity="warning", timeout=15, markup=False)

    @on(OpenRpc)
    def _open_rpc(self, message: OpenRpc) -> None:
        self.open_rpc(message.line)

    def open_rpc(self, line: str) -> None:
        """Open the call dialog with a beginning."""
        from busctl.tui.modals.rpc import RpcModal

        self.push_screen(RpcModal(self.feed, line))

    @on(RunCommand)
    def _run(self, message: RunCommand) -> None:
        command, argument = commands.parse(message.line)
        match command.name:
            case "overview":
                self.action_overview()
            case "queues":
                self.action_queues(argument)
            case "queue":
                self._go(QueuesScreen(self.feed), QueueScreen(self.feed, (self.feed.session.vhost, argument)))
            case "tail":
                self._open_tail(OpenTail(argument))
            case "rpc":
                self.open_rpc(argument)
            case "help":
                self.action_help()
            case _:
                self.exit()


def run_console(session: Session) -> None:
    """Run the console on this terminal until its user leaves it.

    Args:
        session: Stays open; whoever opened it closes it.
    """
    # Both doors open on this thread first; workers may use them then.
    _ = session.broker
    ConsoleApp(session).run()
