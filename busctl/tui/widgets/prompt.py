"""Prompt: the one line to type in: a command behind `:`, a filter behind `/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Label

Kind = Literal[":", "/"]
Complete = Callable[[str], str | None]


class _Completions(Suggester):
    """Asks anew at every key: queues come and go."""

    def __init__(self, complete: Complete) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        return self._complete(value)


class _Field(Input):
    """What is typed behind enter is meant for where that leads: it is kept, not typed into what was entered."""

    behind: list[events.Key] | None = None

    async def _on_key(self, event: events.Key) -> None:
        is_open = self.parent is not None and self.parent.display
        if is_open and self.behind is None and event.key != "enter":
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        key = events.Key(event.key, event.character)
        if not is_open:  # it was on its way already when the prompt was closed
            self.app.call_later(self.app.post_message, key)
        elif self.behind is not None:
            self.behind.append(key)
        else:
            self.behind = []
            await self.action_submit()


class Prompt(Horizontal):
    """Hidden until opened. Suggestions stand behind the cursor; right or tab takes them.

    Args:
        complete: Gives the whole command that the typed beginning may become.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", id="prompt.leave"),
        Binding("tab", "take", "complete", id="prompt.complete", priority=True),
        Binding("up", "recall(-1)", "earlier command", id="prompt.earlier", show=False),
        Binding("down", "recall(1)", "later command", id="prompt.later", show=False),
    ]
    DEFAULT_CSS = """
    Prompt {
        height: 1;
        padding: 0 1;
        background: $panel;
        & > Label { color: $accent; text-style: bold; width: 1; background: $panel; }
        & > Input { width: 1fr; background: $panel; }
        & > #prompt-trouble { width: auto; color: $error; }
    }
    """

    class Changed(Message):
        """The text changed while typing."""

        def __init__(self, kind: Kind, text: str) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    class Submitted(Message):
        """Enter."""

        def __init__(self, kind: Kind, text: str) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    class Left(Message):
        """Escape."""

        def __init__(self, kind: Kind) -> None:
            super().__init__()
            self.kind = kind

    def __init__(self, complete: Complete) -> None:
        super().__init__()
        self.kind: Kind = ":"
        self._commands = _Completions(complete)
        self._came_from: Widget | None = None
        self._lines: Sequence[str] = ()
        self._typed_line = ""
        """What recalled lines must begin with."""
        self._recalled = 0
        """How many lines back."""
        self.display = False

    def compose(self) -> ComposeResult:
        """The sign, the text, and what is wrong with it."""
        yield Label(":", id="prompt-sign", markup=False)
        yield _Field(compact=True, id="prompt-text", select_on_focus=False)
        yield Label("", id="prompt-trouble", markup=False)

    @property
    def is_open(self) -> bool:
        """Whether one types in it now."""
        return self.display

    def open(self, kind: Kind, text: str = "", lines: Sequence[str] = ()) -> None:
        """Begin to type; `lines` are what was typed before, the newest last."""
        self.kind = kind
        self._lines, self._typed_line, self._recalled = lines, text, 0
        field = self.query_one("#prompt-text", _Field)
        field.behind = None
        field.suggester = self._commands if kind == ":" else None
        with field.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        self.query_one("#prompt-sign", Label).update(kind)
        self.trouble("")
        self._came_from = self.screen.focused
        self.display = True
        # At once, not by field.focus(): letters typed right behind the sign must not be taken for keys of the screen.
        self.screen.set_focus(field)

    def close(self) -> None:
        """Give the keys back to where they were."""
        if not self.is_open:
            return
        came_from = self._came_from
        self.display = False
        self.screen.set_focus(came_from if came_from is not None and came_from.is_attached else None)

    def typed_behind(self) -> list[events.Key]:
        """Give the keys that came after enter; from now on they are typed again."""
        field = self.query_one("#prompt-text", _Field)
        keys, field.behind = field.behind or [], None
        return keys

    def trouble(self, text: str) -> None:
        """Say what is wrong with what was typed."""
        self.query_one("#prompt-trouble", Label).update(text)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.trouble("")
        if not self._recalled or event.value not in self._lines:
            self._typed_line, self._recalled = event.value, 0
        self.post_message(self.Changed(self.kind, event.value))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Submitted(self.kind, event.value))

    def action_take(self) -> None:
        """Take the suggestion."""
        self.query_one("#prompt-text", Input).action_cursor_right()
        self.query_one("#prompt-text", Input).action_end()

    def action_recall(self, by: int) -> None:
        """Go through what was typed before and begins like this."""
        found = [*dict.fromkeys(line for line in self._lines if line.startswith(self._typed_line)), self._typed_line]
        at = max(0, min(len(found) - 1 - self._recalled + by, len(found) - 1))
        self._recalled = len(found) - 1 - at
        field = self.query_one("#prompt-text", Input)
        field.value = found[at]
        field.cursor_position = len(found[at])

    def action_leave(self) -> None:
        """Leave without doing anything."""
        self.close()
        self.post_message(self.Left(self.kind))

    def on_descendant_blur(self) -> None:
        """A click elsewhere leaves it."""
        if self.is_open and not self.has_focus_within:
            self.display = False
            self.post_message(self.Left(self.kind))
