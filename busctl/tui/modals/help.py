"""Help: the keys that work at this place, read from the live bindings, and the commands."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from busctl.tui import filters
from busctl.tui.commands import COMMANDS
from busctl.views.formats import safe_text

_SCREEN, _WIDGET, _APP = "This screen", "Moving about", "Everywhere"
_WIDEST = 104


class KeyHelp(NamedTuple):
    """One line of help."""

    keys: str
    text: str
    label: str = ""
    action: str = ""
    node: DOMNode | None = None

    def press(self, app: App[Any]) -> Callable[[], object]:
        """Give what does it."""
        return lambda: app.call_later(app.run_action, self.action, self.node)


class KeyGroup(NamedTuple):
    """The keys of one part of the screen."""

    title: str
    keys: Sequence[KeyHelp]


def live_keys(screen: Screen[object]) -> list[KeyGroup]:
    """Read the keys that work on a screen now, grouped by what they act on."""
    groups: dict[str, dict[str, tuple[list[str], KeyHelp]]] = {_SCREEN: {}, _WIDGET: {}, _APP: {}}
    for active in sorted(screen.active_bindings.values(), key=lambda found: _is_shared(found, screen)):
        binding = active.binding
        if not active.enabled or binding.system or not binding.id:  # only what the console itself binds has an id
            continue
        text = active.tooltip or binding.tooltip or binding.description
        entry = KeyHelp("", text, binding.description, binding.action, active.node)
        keys, _ = groups[_title(active, screen)].setdefault(binding.action, ([], entry))
        display = screen.app.get_key_display(binding)
        if display not in keys:
            keys.append(display)
    return [
        KeyGroup(title, [entry._replace(keys=" ".join(keys)) for keys, entry in entries.values()])
        for title, entries in groups.items()
        if entries
    ]


def _is_shared(active: ActiveBinding, screen: Screen[object]) -> bool:
    """Whether other screens have the key as well: what is special here comes first."""
    own = type(screen).__dict__.get("BINDINGS", ())
    return not any(isinstance(found, Binding) and found.id == active.binding.id for found in own)


def _title(active: ActiveBinding, screen: Screen[object]) -> str:
    if isinstance(active.node, App):
        return _APP
    return _SCREEN if active.node is screen else _WIDGET


class HelpModal(ModalScreen[None]):
    """What can be pressed and typed.

    Args:
        groups: From `live_keys`, of the screen below.
        aliases: The user's own commands.
    """

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close", id="help.close"),
    ]

    def __init__(self, groups: Sequence[KeyGroup], aliases: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._aliases = aliases or {}
        self._groups = groups

    def compose(self) -> ComposeResult:
        """Groups of keys, then the commands."""
        with Vertical(id="help-box") as box:
            box.border_title = "Help"
            box.border_subtitle = "esc close"
            with VerticalScroll(id="help-scroll"):
                for group in self._groups:
                    yield Static(self._section(group.title, group.keys), classes="help-section", markup=False)
                for title, entries in self._typed():
                    yield Static(self._section(title, entries), classes="help-section", markup=False)

    def _typed(self) -> Iterator[tuple[str, Sequence[KeyHelp]]]:
        yield (
            "Commands, behind :",
            [KeyHelp(f":{command.name} {command.usage}".strip(), command.help) for command in COMMANDS],
        )
        if self._aliases:
            yield "Your own", [KeyHelp(f":{safe_text(name)}", safe_text(line)) for name, line in self._aliases.items()]
        more = [KeyHelp("/FILTER", "behind a list: narrowed at once"), KeyHelp("@CONTEXT", "at another broker")]
        yield "Behind any command", more
        yield "Filter, behind /", [KeyHelp(*line) for line in filters.HELP]

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one("#help-scroll").focus()

    def _section(self, title: str, keys: Sequence[KeyHelp]) -> Content:
        width = max(12, *(len(key.keys) + 2 for key in keys))
        room = min(_WIDEST, self.app.size.width * 96 // 100) - width - 8  # frame, padding, scroll bar
        parts: list[tuple[str, str] | str] = [(title, "bold $text-primary")]
        for key in keys:
            lines = textwrap.wrap(key.text[:1].upper() + key.text[1:], max(room, 20))
            text = f"\n{'':{width + 2}}".join(lines)
            parts += ["\n", (f"  {key.keys:<{width}}", "bold $text-accent"), text]
        return Content.assemble(*parts)
