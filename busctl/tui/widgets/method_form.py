"""MethodForm: a field for each argument of a method, made from its schema. The line that is typed leads."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Label

from busctl_lib.methods import Method
from busctl_lib.validation import describe


class MethodForm(VerticalScroll, can_focus=False):
    """The arguments of one method."""

    BINDINGS: ClassVar[list[BindingType]] = []
    DEFAULT_CSS = """
    MethodForm {
        height: auto;
        max-height: 50%;
        scrollbar-size-vertical: 1;
        & Horizontal { height: 1; }
        & Label { width: 18; color: $muted; }
        & Label.-required { color: $foreground; text-style: bold; }
        & Input { width: 1fr; background: $panel; }
    }
    """

    class Edited(Message):
        """A field was changed: the line says this now."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._method: Method | None = None

    def compose(self) -> ComposeResult:
        """The fields of the method, in positional order."""
        for field in self._method.fields if self._method is not None else ():
            with Horizontal():
                required = field.required and field.name not in (self._method.defaults if self._method else {})
                mark = " *" if required else ""
                yield Label(f"{field.name}{mark}", classes="-required" if required else "", markup=False)
                choices = self._method.choices(field) if self._method is not None else []
                yield Input(
                    placeholder=describe(field.type),
                    suggester=SuggestFromList(choices) if choices else None,
                    compact=True,
                    select_on_focus=False,
                    name=field.name,
                )

    async def show(self, method: Method | None, words: Sequence[str]) -> None:
        """Show the fields of a method, filled in from the words behind it."""
        if method is not self._method:
            self._method = method
            await self.recompose()
        if method is None:
            return
        values = _values(method, words)
        for field in self.query(Input):
            text = values.get(field.name or "", "")
            if field.value != text and not field.has_focus:
                with field.prevent(Input.Changed):
                    field.value = text

    @on(Input.Changed)
    def _edited(self, event: Input.Changed) -> None:
        event.stop()
        if self._method is None:
            return
        words = [self._method.name]
        for field in self.query(Input):
            if field.value:
                words.append(f"{field.name}={field.value}")
        self.post_message(self.Edited(shlex.join(words)))


def _values(method: Method, words: Sequence[str]) -> dict[str, str]:
    """Which argument each word is for: by its name, else by its place."""
    names = [field.name for field in method.fields]
    values: dict[str, str] = {}
    waiting = iter(names)
    for word in words:
        name, sign, text = word.partition("=")
        if sign and name.removesuffix(":") in names:
            values[name.removesuffix(":")] = text
        elif (place := next(waiting, None)) is not None:
            values[place] = word
    return values
