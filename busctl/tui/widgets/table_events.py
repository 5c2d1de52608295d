"""What a table tells its screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from busctl.tui.widgets.table import LiveTable


class TableEvent(Message):
    """Something about a table."""

    def __init__(self, table: LiveTable[Any]) -> None:
        super().__init__()
        self.table = table


class Opened(TableEvent):
    """Enter, or a second click, on a row."""

    def __init__(self, table: LiveTable[Any], row: Any) -> None:
        super().__init__(table)
        self.row = row


class Scrolled(TableEvent):
    """Other rows are on the screen now. State: the newest counts."""

    def can_replace(self, message: Message) -> bool:
        """Replace an older one."""
        return isinstance(message, Scrolled) and message.table is self.table


class Sorted(TableEvent):
    """Another order was chosen."""


class Marked(TableEvent):
    """Other rows are marked."""


class Moved(TableEvent):
    """The cursor was moved to another row. State: the newest counts."""

    def can_replace(self, message: Message) -> bool:
        """Replace an older one."""
        return isinstance(message, Moved) and message.table is self.table
