"""Help: the keys that work at this place, read from the live bindings, and the commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from busctl.tui import filters
from busctl.tui.commands import COMMANDS

_SCREEN, _WIDGET, _APP = "This screen", "Moving about", "Everywhere"


class KeyHelp(NamedTuple):
    """One line of help."""

    keys: str
    text: str


class KeyGroup(NamedTuple):
    """The keys of one part of the screen."""

    title: str
    keys: Sequence[KeyHelp]


def live_keys(screen: Screen[object]) -> list[KeyGroup]:
    """Read the keys that work on a screen now, grouped by what they act on."""
    groups: dict[str, dict[str, tuple[list[str], str]]] = {_SCREEN: {}, _WIDGET: {}, _APP: {}}
    for active in screen.active_bindings.values():
        binding = active.binding
        if not active.enabled or binding.system or not binding.id:  # only what the console itself binds has an id
            continue
        text = active.tooltip or binding.tooltip or binding.description
        keys, _ = groups[_title(active, screen)].setdefault(binding.action, ([], text))
        display = screen.app.get_key_display(binding)
        if display not in keys:
            keys.append(display)
    return [
        KeyGroup(title, [KeyHelp(" ".join(keys), text) for keys, text in entries.values()])
        for title, entries in groups.items()
        if entries
    ]


def _title(active: ActiveBinding, screen: Screen[object]) -> str:
    if isinstance(active.node, App):
        return _APP
    return _SCREEN if active.node is screen else _WIDGET


class HelpModal(ModalScreen[None]):
    """What can be pressed and typed.

    Args:
        groups: From `live_keys`, of the screen below.
    """

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close", id="help.close"),
    ]

    def __init__(self, groups: Sequence[KeyGroup]) -> None:
        super().__init__()
        self._groups = groups

    def compose(self) -> ComposeResult:
        """Groups of keys, then the commands."""
        with Vertical(id="help-box") as box:
            box.border_title = "Help"
            box.border_subtitle = "esc close"
            with VerticalScroll(id="help-scroll"):
                for group in self._groups:
                    yield Static(self._section(group.title, group.keys), classes="help-section", markup=False)
                typed = [KeyHelp(f":{command.name} {command.usage}".strip(), command.help) for command in COMMANDS]
                yield Static(self._section("Commands, behind :", typed), classes="help-section", markup=False)
                yield Static(
                    self._section("Filter, behind /", [KeyHelp("/text", filters.HELP)]),
                    classes="help-section",
                    markup=False,
                )

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one("#help-scroll").focus()

    @staticmethod
    def _section(title: str, keys: Sequence[KeyHelp]) -> Content:
        width = max(12, *(len(key.keys) + 2 for key in keys))
        parts: list[tuple[str, str] | str] = [(title, "bold $text-primary")]
        for key in keys:
            parts += ["\n", (f"  {key.keys:<{width}}", "bold $text-accent"), key.text[:1].upper() + key.text[1:]]
        return Content.assemble(*parts)
