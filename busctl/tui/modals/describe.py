"""Describe: one thing with all that is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from busctl.views.formats import safe_text


class DescribeModal(ModalScreen[None]):
    """Labels and texts.

    Args:
        title: What it is, safe to show.
        lines: (label, text), safe to show.
    """

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d,q,enter", "dismiss", "close", id="describe.close"),
        Binding("c", "copy", "copy", id="describe.copy"),
    ]

    def __init__(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title = title
        self._lines = [(label, text) for label, text in lines if text not in ("", "[]", "{}")]

    def compose(self) -> ComposeResult:
        """One scroll of lines."""
        width = min(max((len(label) for label, _ in self._lines), default=0), 30)
        parts: list[str | tuple[str, str]] = []
        for label, text in self._lines:
            parts += [(f"{label:<{width}}  ", "$muted"), f"{text}\n"]
        with Vertical(id="help-box") as box:
            box.border_title = self._title
            box.border_subtitle = "c copy · esc close"
            with VerticalScroll(id="help-scroll"):
                yield Static(Content.assemble(*parts), markup=False)

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one("#help-scroll").focus()

    def action_copy(self) -> None:
        """Copy all lines."""
        self.app.copy_to_clipboard("".join(f"{label}\t{text}\n" for label, text in self._lines))
        self.notify(f"{safe_text(self._title)} copied", markup=False)
