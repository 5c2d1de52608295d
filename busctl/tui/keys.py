"""Keys of the user's own: which names there are, and what is wrong with those in the config file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import TYPE_CHECKING

from textual.binding import Binding

if TYPE_CHECKING:
    from busctl.contexts import ConsoleConfig


def known_ids() -> set[str]:
    """The names of all that has a key."""
    from textual.dom import DOMNode

    from busctl import tui

    for module in pkgutil.walk_packages(tui.__path__, f"{tui.__name__}."):
        importlib.import_module(module.name)
    owners, waiting = set[type](), [DOMNode]
    while waiting:
        owner = waiting.pop()
        owners.add(owner)
        waiting += [kind for kind in owner.__subclasses__() if kind not in owners]
    return {
        binding.id
        for owner in owners
        for binding in owner.__dict__.get("BINDINGS", ())
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
