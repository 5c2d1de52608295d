"""The console: one app, one feed, a stack of places."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from busctl.tui import commands, keys
from busctl.tui.feed import Feed
from busctl.tui.filters import Filter
from busctl.tui.messages import (
    OpenCalls,
    OpenDead,
    OpenList,
    OpenPeek,
    OpenPublish,
    OpenRpc,
    OpenTail,
    OpenTransfer,
    RunCommand,
    SnapshotTaken,
    SwitchTo,
    SwitchVhost,
)
from busctl.tui.modals.describe import DescribeModal
from busctl.tui.modals.help import HelpModal, live_keys
from busctl.tui.nouns import NOUNS
from busctl.tui.opening import Opening
from busctl.tui.pictures import in_columns
from busctl.tui.screens.overview import OverviewScreen
from busctl.tui.screens.place import Place
from busctl.tui.screens.queue import QueueScreen
from busctl.tui.screens.queues import QueuesScreen
from busctl.tui.theme import THEMES, theme_named
from busctl.tui.working import VERBS, request_of
from busctl.views.formats import safe_text
from busctl.views.plain import drawn_in_cells

if TYPE_CHECKING:
    from busctl.contexts import ConsoleConfig
    from busctl.session import Session
    from busctl_lib.poller import Snapshot

GIVE_BACK_S = 30.0
"""How long the end of the console waits until screens have given back what they hold at the broker."""


_OPENS: dict[str, Callable[[str], Message]] = {
    "tail": OpenTail,
    "calls": OpenCalls,
    "peek": OpenPeek,
    "publish": OpenPublish,
    "rpc": OpenRpc,
    "undo": lambda operation: OpenTransfer(undo=operation),
    "resume": lambda operation: OpenTransfer(resume=operation),
    "context": SwitchTo,
    "vhost": SwitchVhost,
}
"""What a command with one argument opens."""
_BOXES = (DescribeModal, HelpModal)
_NO_PLACES = {*VERBS, "undo", "resume", "context", "vhost", "theme", "help", "q"}
"""Commands that one does not go back to."""


class ConsoleApp(Opening):
    """The console of one session.

    Args:
        session: Whose broker to look at. It is not closed here.
        console: The console's part of the config file.
    """

    TITLE = "busctl"
    CSS_PATH = "screens/place.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "overview", "overview", id="app.overview", show=False, tooltip="Go to the overview."),
        Binding("2", "queues", "queues", id="app.queues", show=False, tooltip="Go to the queues."),
        Binding("3", "rpc", "rpc", id="app.rpc", show=False, tooltip="Call a method and see its reply."),
        *(
            Binding(
                key,
                f"noun('{noun}')",
                noun,
                id=f"app.{noun}",
                show=False,
                tooltip=f"Go to the {called}.",
            )
            for key, noun, called in (
                ("4", "dead", "dead letters"),
                ("5", "exchanges", "exchanges"),
                ("6", "connections", "connections"),
                ("7", "consumers", "consumers"),
                ("8", "nodes", "nodes"),
                ("9", "operations", "operations: what was changed from here"),
            )
        ),
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
        Binding(
            "minus",
            "step_back",
            "step back",
            id="app.again",
            key_display="-",
            show=False,
            tooltip="Back to where the command before the last one led, also at another broker.",
        ),
        Binding(
            "ctrl+z",
            "undo_last",
            "undo",
            id="app.undo",
            show=False,
            tooltip="Plan to put back what the last operation did.",
        ),
        Binding("ctrl+s", "save_picture", "picture", id="app.picture", show=False, tooltip="Save the screen as SVG."),
        Binding("question_mark", "help", "help", id="app.help", key_display="?", tooltip="Keys and commands."),
        Binding("f1", "help", "help", id="app.help-typing", tooltip="Keys and commands."),
        Binding("q", "quit", "quit", id="app.quit", tooltip="Leave the console."),
        Binding("ctrl+c", "quit", "quit", id="app.interrupt", show=False, system=True),
    ]

    def __init__(self, session: Session, console: ConsoleConfig | None = None) -> None:
        super().__init__()
        self.feed = Feed(session, self._on_beat, console, self.held)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = theme_named(self.feed.console.theme, no_color=self.no_color)
        self.set_keymap(self.feed.console.keys)

    def _on_beat(self, feed: Feed, snapshot: Snapshot) -> None:
        """Runs on a poller's thread."""
        self.post_message(SnapshotTaken(snapshot, feed))

    def on_mount(self) -> None:
        """Show the overview at once, and begin to ask."""
        self.push_screen(OverviewScreen(self.feed))
        self.step("overview")
        self.feed.start()
        for sentence in keys.mistakes(self.feed.console):
            self.notify(safe_text(sentence), title="Config", severity="warning", timeout=15, markup=False)

    def on_unmount(self) -> None:
        """Stop asking."""
        self.feed.stop()

    @on(SnapshotTaken)
    def _show(self, message: SnapshotTaken) -> None:
        # One of a broker that was left meanwhile, or one that came while the screens were being taken down.
        if message.feed not in (None, self.feed) or not self.is_running:
            return
        self.feed.snapshot = message.snapshot
        if (place := self.place) is not None:
            place.take_snapshot(message.snapshot)

    @property
    def place(self) -> Place | None:
        """The place in front, below any question."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Place)), None)

    # --- ways

    def go(self, *places: Place) -> None:
        """Go to a place by its own way: overview, then these."""
        with self.batch_update():
            while len(self.screen_stack) > 1 and not isinstance(self.screen, OverviewScreen):
                self.pop_screen()
            for place in places:
                self.push_screen(place)

    def action_overview(self) -> None:
        """Go to the overview."""
        self.step("overview")
        self.go()

    def action_queues(self) -> None:
        """Go to the queues."""
        self.step("queues")
        if not isinstance(self.screen, QueuesScreen):
            self.go(QueuesScreen(self.feed))

    def action_noun(self, noun: str) -> None:
        """Go to a list."""
        self.step(noun)
        self.go(self.list_place(OpenList(noun)))

    def action_rpc(self) -> None:
        """Go to the workbench for calls."""
        self.step("rpc")
        self.open_rpc("")

    def action_prompt(self, kind: str) -> None:
        """Open the command bar or the filter; a box that only shows something gives way to it."""
        if isinstance(self.screen, _BOXES):
            self.pop_screen()
        if isinstance(self.screen, Place):
            self.screen.open_prompt(":" if kind == ":" else "/")

    def action_help(self) -> None:
        """Show the keys of the place in front."""
        self.push_screen(HelpModal(live_keys(self.screen), self.feed.console.aliases))

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        """The screen as SVG."""
        return in_columns(super().export_screenshot(title=title, simplify=simplify))

    def action_save_picture(self) -> None:
        """Write the screen as SVG into the folder the console was started in."""
        try:
            path = Path(self.save_screenshot())
        except OSError as error:
            self.notify(f"cannot write here: {error.strerror}", severity="error", markup=False)
            return
        self.notify(safe_text(path.name), title="Saved here", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only places have a prompt, and only some a filter."""
        if action == "prompt":
            # What is typed behind it would be taken for keys of the box, and of what lies below once one closed it.
            place = self.screen_stack[-2] if isinstance(self.screen, _BOXES) else self.screen
            if not isinstance(place, Place):
                return False
            if isinstance(place.focused, Input) and place.focused.check_consume_key("colon", str(parameters[0])):
                return False
            return parameters[0] == ":" or place.FILTERS
        if action in ("overview", "queues", "rpc", "help", "noun", "step_back", "undo_last"):
            return isinstance(self.screen, Place)
        return super().check_action(action, parameters)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Fill the palette: the keys that work now, and the commands."""
        for group in live_keys(screen):
            for key in group.keys:
                yield SystemCommand(key.label, f"{key.text} ({key.keys})", key.press(self))
        for command in commands.COMMANDS:
            if not command.usage or command.usage.startswith("["):
                line = command.name
                yield SystemCommand(f":{line}", command.help, lambda line=line: self.post_message(RunCommand(line)))
        yield SystemCommand("theme", "Other colours.", self.action_change_theme)

    # --- commands

    @on(RunCommand)
    def _run(self, message: RunCommand) -> None:
        try:
            typed = commands.parse(message.line, self.feed.console.aliases)
            filtered = Filter(typed.filter)
        except ValueError as error:
            self.notify(safe_text(str(error)), severity="error", markup=False)
            return
        if typed.context and typed.context != self.feed.session.settings.context:
            self.post_message(SwitchTo(typed.context, message.line))
            return
        if typed.command.name not in _NO_PLACES:
            self.step(message.line)
        if typed.command.usage == "[GLOB]":
            self.go(self.list_place(_list_of(typed, filtered)))
        else:
            self._obey(typed)

    def _obey(self, typed: commands.Typed) -> None:
        name, argument = typed.command.name, typed.argument
        if name == "dead":
            places = [] if not argument else [self.dead_place(OpenDead(argument))]
            self.go(self.list_place(OpenList("dead")), *places)
        elif name in _OPENS:
            self.post_message(_OPENS[name](argument))
        elif name in VERBS:
            self._transfer(name, argument)
        elif name == "topology":
            self.go(self.topology_place(argument, Filter(typed.filter)))
        elif name == "queue":
            self.go(QueuesScreen(self.feed), QueueScreen(self.feed, (self.feed.session.vhost, argument)))
        else:
            self._obey_console(name, argument)

    def _transfer(self, verb: str, argument: str) -> None:
        try:
            request = request_of(verb, argument)
        except ValueError as error:
            self.notify(safe_text(str(error)), severity="error", markup=False)
        else:
            self.post_message(OpenTransfer(request=request))

    def _obey_console(self, name: str, argument: str) -> None:
        match name:
            case "overview":
                self.action_overview()
            case "theme":
                self._choose_theme(argument)
            case "help":
                self.action_help()
            case _:
                self.exit()

    def _choose_theme(self, name: str) -> None:
        wanted = name if name.startswith("busctl-") else f"busctl-{name}"
        if not name:
            self.action_change_theme()
        elif wanted in self.available_themes:
            self.theme = wanted
        else:
            known = ", ".join(theme.name.removeprefix("busctl-") for theme in THEMES)
            self.notify(f"no theme {name!r}; there are: {known}", severity="warning", markup=False)


def _list_of(typed: commands.Typed, filtered: Filter) -> OpenList:
    """A glob alone is the filter, and can be taken away; beside a filter it says which list it is."""
    noun = typed.command.name
    if noun == "events":
        return OpenList(noun, typed.argument, filter=filtered)
    if not typed.argument:
        return OpenList(noun, filter=filtered)
    glob = Filter(typed.argument, glob=True)
    if not filtered:
        return OpenList(noun, filter=glob)
    label = (lambda row: row.name) if noun == "queues" else NOUNS[noun].label
    return OpenList(noun, safe_text(typed.argument, 40), lambda row: glob.matches(label(row)), filtered)


def run_console(session: Session, console: ConsoleConfig | None = None) -> list[str]:
    """Run the console on this terminal until its user leaves it.

    Args:
        session: Stays open; whoever opened it closes it.
        console: The console's part of the config file; read from there when None.

    Returns:
        What could not be given back to the broker, a sentence each.

    Raises:
        ConfigError: the config file cannot be used.
    """
    from busctl.contexts import config_path, load

    # Both doors open on this thread first; workers may use them then.
    _ = session.broker
    app = ConsoleApp(session, console or load(config_path()).console)
    gc.freeze()  # what is loaded by now stays: searching it for garbage again and again would hold up keys
    try:
        with drawn_in_cells():
            app.run()
    finally:
        app.stop_jobs()
        app.held.wait(GIVE_BACK_S)
        app.close_sessions()
    return app.held.told
