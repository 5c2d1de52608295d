"""KeyLine: the keys that work right now, from the live bindings. A click on one presses it."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from textual import events
from textual.app import App, RenderResult
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget


class _Key(NamedTuple):
    """One key as shown."""

    key: str
    display: str
    label: str

    @property
    def width(self) -> int:
        return cell_len(self.display) + cell_len(self.label) + 3


class KeyLine(Widget):
    """One line of keys: those of the place on the left, those of the whole console on the right."""

    DEFAULT_CSS = """
    KeyLine {
        height: 1;
        dock: bottom;
        background: $panel;
        color: $foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._spans: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Follow the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._on_bindings)

    def _on_bindings(self, screen: Screen[object]) -> None:
        if self.is_attached and screen is self.screen:
            self.refresh()

    def render(self) -> RenderResult:
        """Draw what fits; the console's own keys stay, the last of the place's go first."""
        place, console = self._keys()
        room = self.size.width - sum(key.width for key in console) - 1
        left: list[_Key] = []
        for key in place:
            if key.width > room:
                break
            left.append(key)
            room -= key.width
        self._spans = []
        content = self._draw(left, 0)
        content += Content(" " * max(self.size.width - content.cell_length - sum(key.width for key in console) - 1, 0))
        return content + self._draw(console, content.cell_length)

    def _draw(self, keys: list[_Key], at: int) -> Content:
        parts: list[tuple[str, str] | str] = []
        for key in keys:
            self._spans.append((at, at + key.width, key.key))
            parts += [(f" {key.display}", "bold $text-accent"), f" {key.label} "]
            at += key.width
        return Content.assemble(*parts)

    def _keys(self) -> tuple[list[_Key], list[_Key]]:
        place: list[tuple[int, _Key]] = []
        console: list[_Key] = []
        seen: set[str] = set()
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if not binding.show or not enabled or binding.action in seen:
                continue
            seen.add(binding.action)
            key = _Key(binding.key, self.app.get_key_display(binding), binding.description)
            if isinstance(node, App):
                console.append(key)
            else:
                place.append((self._order(node, binding), key))
        return [key for _, key in sorted(place, key=lambda pair: pair[0])], console

    def _order(self, node: object, binding: Binding) -> int:
        """What is special here comes before what every place has: where room is short, that goes first."""
        own = {found.id for found in type(self.screen).__dict__.get("BINDINGS", ()) if isinstance(found, Binding)}
        if node is not self.screen:
            return 0
        return 1 if binding.id in own else 2 if binding.action == "up" else 3

    def on_click(self, event: events.Click) -> None:
        """Press the key."""
        for start, end, key in self._spans:
            if start <= event.x < end:
                self.app.simulate_key(key)
                return
