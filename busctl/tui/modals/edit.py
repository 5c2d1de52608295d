"""Edit: the body of a message, as JSON."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from busctl.views.formats import safe_text


class EditModal(ModalScreen[str | None]):
    """JSON to change; None when its user leaves it.

    Args:
        body: As it is.
    """

    CSS_PATH = "edit.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5,ctrl+s", "done", "plan", id="edit.done", priority=True),
        Binding("escape", "dismiss(None)", "leave", id="edit.leave", priority=True),
    ]

    def __init__(self, body: bytes) -> None:
        super().__init__()
        try:
            self._text = msgspec.json.format(body, indent=2).decode()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._text = body.decode("utf-8", "replace")

    def compose(self) -> ComposeResult:
        """The text, and what is wrong with it."""
        with Vertical(id="edit-box") as box:
            box.border_title = "Edit the body"
            box.border_subtitle = "f5 plan the replay · esc leave it"
            yield TextArea(self._text, id="edit-text", soft_wrap=True)
            yield Static("", id="edit-trouble", markup=False)

    def action_done(self) -> None:
        """Give the text, if it is JSON."""
        text = self.query_one(TextArea).text
        try:
            msgspec.json.decode(text.encode())
        except (msgspec.MsgspecError, RecursionError) as error:
            said = Content.assemble(("✖ not JSON: ", "bold $text-error"), safe_text(str(error)))
            self.query_one("#edit-trouble", Static).update(said)
            return
        self.dismiss(text)
