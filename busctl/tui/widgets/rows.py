"""Rows: what a table and a log of messages share: a header, a cursor, and moving it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip


def strip_of(parts: Iterable[tuple[str, Style]], used: int, width: int, base: Style) -> Strip:
    """Make a line of its parts. Neighbours of one style become one: what is drawn costs by the piece.

    Args:
        parts: Text and style.
        used: Cells that the parts fill.
        width: Cells of the line.
        base: The style of what is left of it.
    """
    segments: list[Segment] = []
    texts: list[str] = []
    now = base
    for text, style in (*parts, (" " * (width - used), base)):
        if style is not now and texts:
            segments.append(Segment("".join(texts), now))
            texts = []
        now = style
        texts.append(text)
    segments.append(Segment("".join(texts), now))
    return Strip(segments, max(width, used)).adjust_cell_length(width, base)


class Rows(ScrollView, can_focus=True):
    """Lines below a header line, one of them under the cursor. Only what is on the screen is ever drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", id="rows.up", show=False),
        Binding("down,j", "move(1)", "down", id="rows.down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", id="rows.page-up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", id="rows.page-down", show=False),
    ]

    _cursor = 0
    _base = Style()
    """The style of a line."""
    _width = 0
    """Cells of the line that is drawn."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw lines; what they share is looked up once for all of them, since that costs as much as drawing one."""
        self._base, self._width = self.rich_style, self.line_width
        return super().render_lines(crop)

    @property
    def line_width(self) -> int:
        """Cells of a line, the scrollbar's own not counted."""
        return self.scrollable_content_region.width

    @property
    def _count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def _move_to(self, index: int) -> None:
        before, top = self._cursor, self.scroll_offset.y
        self._cursor = max(0, min(index, self._count - 1))
        self._keep_cursor_in_sight()
        if self.scroll_offset.y == top:  # else all lines are drawn anyway
            self.draw_lines(place - top + 1 for place in {before, self._cursor})

    def draw_lines(self, lines: Iterable[int]) -> None:
        """Draw only these lines again; the header is line 0."""
        regions = [Region(0, line, self.size.width, 1) for line in lines if line >= 0]
        if regions:  # none at all would mean everything
            self.refresh(*regions)

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
