"""Password: asked for where it stands nowhere."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from busctl.views.formats import safe_text


class PasswordModal(ModalScreen[str | None]):
    """One line that shows nothing of what is typed; None when its user leaves.

    Args:
        user: Whose password.
    """

    CSS_PATH = "question.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "leave", id="password.leave")]

    def __init__(self, user: str) -> None:
        super().__init__()
        self._user = user

    def compose(self) -> ComposeResult:
        """One field."""
        with Vertical(id="question-box") as box:
            box.border_title = f"Password of {safe_text(self._user, 40)}"
            box.border_subtitle = "enter go on · esc leave"
            yield Input(password=True, id="question-line")

    @on(Input.Submitted)
    def _given(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)
