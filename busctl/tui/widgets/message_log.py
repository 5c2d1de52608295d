"""MessageLog: messages as they come, a bounded number. Following is a mode one can see; paused, nothing moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive, var
from textual.strip import Strip

from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.widgets.rows import Rows
from busctl.views import messages
from busctl.views.formats import safe_text
from busctl_lib.codecs import is_plain
from busctl_lib.documents import body_of
from busctl_lib.envelope import Delivery

if TYPE_CHECKING:
    from busctl_lib.taps import Note

    Row: TypeAlias = Delivery | Note

KEPT_ROWS = 5_000
KEPT_BYTES = 32 * 2**20
_TRIM = 500
_KEY_WIDTH = 28
_SIZE_WIDTH = 7
_TYPE_WIDTH = 14
_MATCHED_BYTES = 4_000
"""How much of a body the filter looks at."""


class MessageLog(Rows):
    """Rows of messages, the newest below. Only what is on the screen is ever formatted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "detail", id="log.open", tooltip="Show the message under the cursor in full."),
        Binding("home,g", "first", "first row", id="log.first", show=False),
        Binding("end,G", "follow", "follow", id="log.follow", show=False, tooltip="Go to the newest and follow."),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "message-log--header",
        "message-log--time",
        "message-log--type",
        "message-log--note",
        "message-log--cursor",
        "message-log--mark",
    }
    DEFAULT_CSS = """
    MessageLog {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        & > .message-log--header { color: $muted; text-style: bold; }
        & > .message-log--time { color: $muted; }
        & > .message-log--type { color: $primary; }
        & > .message-log--note { color: $warning; }
        & > .message-log--mark { color: $primary; }
        & > .message-log--cursor { background: $panel; }
        &:focus > .message-log--cursor { background: $row-cursor; text-style: $row-cursor-style; }
    }
    """

    following: var[bool] = var(True)
    empty: reactive[str] = reactive("")
    """What stands there while there are no rows."""

    class Opened(Message):
        """Enter, or a second click, on a message."""

        def __init__(self, delivery: Delivery) -> None:
            super().__init__()
            self.delivery = delivery

    class Moved(Message):
        """The cursor stands on another message."""

        def __init__(self, delivery: Delivery) -> None:
            super().__init__()
            self.delivery = delivery

    class FollowChanged(Message):
        """Following began or ended."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._rows: list[Row] = []
        self._shown: list[Row] = self._rows
        self._held: deque[Row] = deque()
        """What came while paused."""
        self._held_bytes = 0
        self._bytes = 0
        self._passing = EVERYTHING
        self._sought: Row | None = None
        """What the cursor goes back to once it has passed a filter that runs elsewhere."""
        self._key_width = 10

    # --- what the screen tells and asks

    @property
    def kept(self) -> int:
        """How many rows are kept."""
        return len(self._rows)

    @property
    def shown(self) -> int:
        """How many of them pass the filter."""
        return len(self._shown)

    @property
    def waiting(self) -> int:
        """How many came since following ended."""
        return len(self._held)

    @property
    def delivery(self) -> Delivery | None:
        """The message under the cursor."""
        row = self._shown[self._cursor] if 0 <= self._cursor < len(self._shown) else None
        return row if isinstance(row, Delivery) else None

    def add(self, rows: Sequence[Row]) -> None:
        """Add what came, in order; while paused it is held back."""
        if not rows:
            return
        if not self.following:
            self._hold(rows)
            return
        self._append(rows)

    def _hold(self, rows: Sequence[Row]) -> None:
        """Hold rows back; the oldest go first, the newest is kept in any case."""
        self._held += rows
        self._held_bytes += _weight(rows)
        while len(self._held) > 1 and (len(self._held) > KEPT_ROWS or self._held_bytes > KEPT_BYTES):
            self._held_bytes -= _weight([self._held.popleft()])

    def replace(self, rows: Sequence[Row]) -> None:
        """Show these instead; the cursor goes to the first."""
        self._rows, self._bytes = [], 0
        self._held, self._held_bytes = deque(), 0
        self._shown = [] if self._passing else self._rows
        self._append(rows)
        self._cursor = 0
        self._settle()

    class Unsifted(Message):
        """Rows came that a filter which runs elsewhere must look at; they are shown when `pass_rows` says so."""

        def __init__(self, rows: Sequence[Row], passing: Filter) -> None:
            super().__init__()
            self.rows = rows
            self.passing = passing

    def pass_rows(self, rows: Sequence[Row]) -> None:
        """Show rows that passed the filter elsewhere."""
        self._shown += rows
        del self._shown[:-KEPT_ROWS]  # some may have been forgotten meanwhile
        if self._sought is not None and not self.following:
            self._put_on(self._sought)
        self._settle()

    def set_filter(self, passing: Filter) -> None:
        """Show only rows that pass."""
        under = self._sought or self.delivery
        self._passing, self._sought = passing, under if passing.guarded else None
        if passing.guarded:
            self._shown = []
            self.post_message(self.Unsifted(list(self._rows), passing))
        else:
            self._shown = [row for row in self._rows if self._passes(row)] if passing else self._rows
        if under is not None and not self.following:
            self._put_on(under)
        self._settle()

    def _put_on(self, wanted: Row) -> None:
        self._cursor = next((at for at, row in enumerate(self._shown) if row is wanted), len(self._shown) - 1)

    def watch_following(self, following: bool) -> None:
        """Catch up with what was held back."""
        if following and self._held:
            held, self._held, self._held_bytes = list(self._held), deque(), 0
            self._append(held)
        elif following:
            self._settle()
        self.refresh()
        self.post_message(self.FollowChanged())

    # --- rows

    def _append(self, rows: Sequence[Row]) -> None:
        self._rows += rows
        if self._passing.guarded:
            self.post_message(self.Unsifted(list(rows), self._passing))
        elif self._shown is not self._rows:
            self._shown += [row for row in rows if self._passes(row)]
        for row in rows:
            if isinstance(row, Delivery):
                self._bytes += len(row.body)
                key = len(row.routing_key) + (len(row.exchange) + 1 if row.exchange else 0)
                self._key_width = max(self._key_width, min(key, _KEY_WIDTH))
        self._trim()
        self._settle()

    def _trim(self) -> None:
        """Forget the oldest, in steps."""
        if len(self._rows) <= KEPT_ROWS and self._bytes <= KEPT_BYTES:
            return
        cut = min(max(len(self._rows) - KEPT_ROWS + _TRIM, 1), len(self._rows))
        while cut < len(self._rows) and self._bytes - _weight(self._rows[:cut]) > KEPT_BYTES:
            cut += _TRIM
        self._bytes -= _weight(self._rows[:cut])
        gone = {id(row) for row in self._rows[:cut]}
        del self._rows[:cut]
        if self._shown is not self._rows:
            self._shown = [row for row in self._shown if id(row) not in gone]

    def _passes(self, row: Row) -> bool:
        if not isinstance(row, Delivery):
            return True
        return self._passing.matches(matched_text(row))

    def _settle(self) -> None:
        self.virtual_size = Size(self.line_width, len(self._shown) + 1)
        if self.following:
            self._cursor = max(len(self._shown) - 1, 0)
        self._cursor = max(0, min(self._cursor, len(self._shown) - 1))
        self._keep_cursor_in_sight()
        self.refresh()

    # --- drawing

    def on_resize(self) -> None:
        """The newest stays in sight."""
        self._settle()

    def render_line(self, y: int) -> Strip:
        """Draw one line: the header, or the row that is scrolled there."""
        width, base = self._width, self._base
        if y == 0:
            style = base + self._part("header")
            head = f" {'TIME':<12}  {'KEY':<{self._key_width}}  {'SIZE':>{_SIZE_WIDTH}}  "
            if width >= 100:
                head += f"{'TYPE':<{_TYPE_WIDTH}}  "
            return Strip([Segment(set_cell_size(head + "BODY", width), style)], width)
        index = y - 1 + self.scroll_offset.y
        if index >= len(self._shown):
            if y != 2 or self._shown:
                return Strip.blank(width, base)
            return Strip([Segment(set_cell_size(f"  {self.empty}", width), base + self._part("time"))], width)
        under_cursor = index == self._cursor and not self.following
        if under_cursor:
            base += self._part("cursor")
        mark = Segment("▌" if under_cursor else " ", base + self._part("mark"))
        row = self._shown[index]
        if not isinstance(row, Delivery):
            text = set_cell_size(f"-- {safe_text(row.text)} --", width - 1)
            return Strip([mark, Segment(text, base + self._part("note"))], width)
        return Strip([mark, *self._cells(row, width - 1, base)]).adjust_cell_length(width, base)

    def _cells(self, delivery: Delivery, width: int, base: Style) -> list[Segment]:
        row = messages.row(delivery, max(width, 8))
        segments = [
            Segment(row.time, base + self._part("time")),
            Segment(f"  {set_cell_size(row.key, self._key_width)}  {row.size:>{_SIZE_WIDTH}}  ", base),
        ]
        if width >= 99:
            segments.append(Segment(set_cell_size(row.type, _TYPE_WIDTH) + "  ", base + self._part("type")))
        room = width - sum(segment.cell_length for segment in segments)
        body = row.body if cell_len(row.body) <= room else set_cell_size(row.body, max(room - 1, 0)) + "…"
        return [*segments, Segment(body, base)]

    def _part(self, name: str) -> Style:
        return self.get_component_rich_style(f"message-log--{name}", partial=True)

    # --- moving

    @property
    def _count(self) -> int:
        return len(self._shown)

    def _move_to(self, index: int) -> None:
        self.following, self._sought = False, None
        super()._move_to(index)
        if (delivery := self.delivery) is not None:
            self.post_message(self.Moved(delivery))

    def action_first(self) -> None:
        """Go to the oldest kept."""
        self._move_to(0)

    def action_follow(self) -> None:
        """Go to the newest and follow."""
        self.following = True

    def action_open(self) -> None:
        """Show the message under the cursor; this pauses."""
        self.following = False
        if (delivery := self.delivery) is not None:
            self.post_message(self.Opened(delivery))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor there; a second click opens."""
        index = event.y - 1 + self.scroll_offset.y
        if event.y == 0 or index >= len(self._shown):
            return
        again = index == self._cursor and event.chain > 1
        self._move_to(index)
        if again:
            self.action_open()

    def on_mouse_scroll_up(self) -> None:
        """Looking back pauses."""
        self.following = False


def matched_text(row: Row) -> str:
    """What a filter for text looks at: the key and the beginning of the body."""
    if not isinstance(row, Delivery):
        return row.text
    if is_plain(row.properties):
        return f"{row.routing_key} {row.body[:_MATCHED_BYTES].decode('utf-8', 'replace')}"
    return f"{row.routing_key} {body_of(row).printed[:_MATCHED_BYTES]}"


def _weight(rows: Sequence[Row]) -> int:
    return sum(len(row.body) for row in rows if isinstance(row, Delivery))
