"""Rows: what a table and a log of messages share: a header, a cursor, and moving it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.scroll_view import ScrollView


class Rows(ScrollView, can_focus=True):
    """Lines below a header line, one of them under the cursor. Only what is on the screen is ever drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", id="rows.up", show=False),
        Binding("down,j", "move(1)", "down", id="rows.down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", id="rows.page-up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", id="rows.page-down", show=False),
    ]

    _cursor = 0

    @property
    def line_width(self) -> int:
        """Cells of a line, the scrollbar's own not counted."""
        return self.scrollable_content_region.width

    @property
    def _count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def _move_to(self, index: int) -> None:
        self._cursor = max(0, min(index, self._count - 1))
        self._keep_cursor_in_sight()
        self.refresh()

    def _keep_cursor_in_sight(self) -> None:
        height = max(self.scrollable_content_region.height - 1, 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False, immediate=True)

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by screenfuls."""
        self._move_to(self._cursor + by * max(self.scrollable_content_region.height - 2, 1))
