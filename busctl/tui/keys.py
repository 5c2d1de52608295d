"""Keys of the user's own: which names there are, and what is wrong with those in the config file."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from textual.binding import Binding

if TYPE_CHECKING:
    from busctl.contexts import ConsoleConfig


def known_ids() -> set[str]:
    """The names of all that has a key."""
    from busctl.tui import screens as _screens  # noqa: F401 - the classes below are found once they are loaded
    from busctl.tui.app import ConsoleApp
    from busctl.tui.screens.listing import ListScreen
    from busctl.tui.screens.overview import OverviewScreen
    from busctl.tui.screens.queue import QueueScreen
    from busctl.tui.screens.queues import QueuesScreen
    from busctl.tui.screens.tail import TailScreen
    from busctl.tui.widgets.message_log import MessageLog
    from busctl.tui.widgets.table import LiveTable

    owners = (ConsoleApp, ListScreen, OverviewScreen, QueueScreen, QueuesScreen, TailScreen, MessageLog, LiveTable)
    return {
        binding.id
        for owner in owners
        for kind in owner.__mro__
        for binding in kind.__dict__.get("BINDINGS", ())
        if isinstance(binding, Binding) and binding.id
    }


def mistakes(console: ConsoleConfig) -> list[str]:
    """Say what in the console's part of the config file means nothing."""
    from busctl.tui.commands import parse
    from busctl.tui.theme import THEMES

    found = []
    if console.keys:
        known = known_ids()
        for name in console.keys:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                found.append(f"[console.keys] {name}: no such key" + (f", did you mean {near[0]}?" if near else ""))
    for name, line in console.aliases.items():
        try:
            parse(line)
        except ValueError as error:
            if "needs" not in str(error):  # its argument may come when it is used
                found.append(f"[console.aliases] {name}: {error}")
    names = [theme.name.removeprefix("busctl-") for theme in THEMES]
    if console.theme is not None and console.theme.removeprefix("busctl-") not in names:
        found.append(f"[console] theme: no theme {console.theme!r}; there are: {', '.join(names)}")
    return found
