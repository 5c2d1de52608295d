"""Question: whether many things shall happen at once; what they are stands above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from busctl.views.formats import safe_text


class QuestionModal(ModalScreen[bool]):
    """Yes, or no.

    Args:
        question: What would happen, with its count.
        lines: To what: (name, count or what is to know).
        word: What has to be typed; "" asks for the key y.
    """

    CSS_PATH = "question.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes", id="question.yes"),
        Binding("escape,n,q", "dismiss(False)", "no", id="question.no"),
    ]

    def __init__(self, question: str, lines: Sequence[tuple[str, str]], *, word: str = "") -> None:
        super().__init__()
        self.add_class("-destructive")
        self._question = question
        self._lines = lines
        self._word = word

    def compose(self) -> ComposeResult:
        """What, the question, and where the word goes."""
        width = min(max((len(safe_text(name)) for name, _ in self._lines), default=0), 60)
        text = "\n".join(f"{safe_text(name, 60):<{width}}  {safe_text(said)}" for name, said in self._lines)
        with Vertical(id="question-box") as box:
            box.border_title = safe_text(self._question)
            box.border_subtitle = "esc leave it" if self._word else "y yes · esc leave it"
            with VerticalScroll(id="question-lines"):
                yield Static(text, markup=False)
            if self._word:
                yield Static(Content.styled(f"production: type {safe_text(self._word)} to go on", "bold $text-error"))
                yield Input(id="question-line")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The key y is not enough where a word is wanted."""
        if action == "dismiss" and parameters == (True,):
            return not self._word
        return super().check_action(action, parameters)

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        self.dismiss(event.value == self._word)
