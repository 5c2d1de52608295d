"""FlowPlace: a table of what comes one after the other, the newest on top; follow or pause."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker, get_current_worker

from busctl.tui.feed import Feed
from busctl.tui.filters import EVERYTHING, Filter
from busctl.tui.messages import FlowBatch, FlowOpened, TapEnded
from busctl.tui.screens.table_place import TablePlace
from busctl.tui.tapping import RETRY_S, Gatherer, is_away, keep_trying
from busctl.views.formats import safe_text
from busctl.views.view import View
from busctl_lib.errors import BusError, GuardRefused

T = TypeVar("T")


class FlowPlace(TablePlace[T]):
    """Watches for as long as it is on the stack. On the top row one follows; on any other the cursor keeps its row.

    Args:
        feed: The bus.
        view: What a row is.
        filtered: What to narrow it to at first.
        of: What it is narrowed to, for the breadcrumbs, safe to show.
        only: Which rows belong here.
    """

    CSS_PATH = "flow_place.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "toggle_follow", "pause/follow", id="flow.pause", tooltip="Stop the rows, or follow again."),
    ]
    KEPT_ROWS: ClassVar[int] = 2_000
    WAITS: ClassVar[str] = "choosing a way to look without harm …"
    """What stands there until it is known what is seen."""

    def __init__(
        self,
        feed: Feed,
        view: View[T],
        filtered: Filter = EVERYTHING,
        *,
        of: str = "",
        only: Callable[[T], bool] | None = None,
    ) -> None:
        super().__init__(feed, view, filtered, of=of, only=only)
        self._kept: deque[T] = deque(maxlen=self.KEPT_ROWS)
        self._still: Sequence[T] | None = None
        """What was there when the rows were stopped; None while they follow."""
        self._came = 0
        self._came_paused = 0
        self._trouble: BusError | None = None
        self._opened = False
        self._link: str | None = None
        self._gatherer: Gatherer[T] | None = None

    # --- for each

    def follow(self, worker: Worker[None]) -> None:
        """Open the source, say so with FlowOpened, then `gather` until the worker is cancelled. Thread: the worker's.

        Raises:
            BusError: it cannot be opened, or not go on.
        """
        raise NotImplementedError

    # --- what a table place asks

    @property
    def first_sort(self) -> str | None:
        """As they came."""
        return None

    def key(self, row: T) -> Hashable:
        """Which of the kept rows it is."""
        return id(row)

    def known_rows(self) -> Sequence[T]:
        """The newest first."""
        return self._still if self._still is not None else self._rows()

    def _rows(self) -> list[T]:
        return list(self.belonging(list(reversed(self._kept))))

    def compose_place(self) -> ComposeResult:
        """What is seen, how it goes, the rows."""
        yield Static(self.WAITS, id="flow-told", markup=False)
        yield Static("", id="flow-mode", markup=False)
        yield from super().compose_place()

    # --- the worker: it owns the source, and never touches a widget

    def on_mount(self) -> None:
        """Begin to watch."""
        self._watch()
        self.show_filtered()
        self.show_mode()

    @work(thread=True, exclusive=True, exit_on_error=False, group="flow")
    def _watch(self) -> None:
        worker = get_current_worker()
        keep_trying(worker, lambda: self.follow(worker), lambda error: self.post_message(TapEnded(error)))

    def gather(
        self, worker: Worker[None], take: Callable[[float], T | None], link: Callable[[], str | None] = lambda: None
    ) -> None:
        """Hand over what comes until the worker is cancelled. Thread: the worker's.

        Args:
            worker: Whose end is the end.
            take: Gives the next row, or None when none came in so many seconds.
            link: Says what the link is doing when it is not up.
        """
        self._gatherer = Gatherer(take, lambda rows, _: self.post_message(FlowBatch(rows, link())))
        self._gatherer.run(worker)

    # --- what it tells

    @on(FlowOpened)
    def _begin(self, message: FlowOpened) -> None:
        self._trouble, self._opened = None, True
        self.query_one("#flow-told", Static).update(safe_text("; ".join(message.told)))
        self.show_filtered()
        self.show_mode()

    @on(FlowBatch)
    def _take(self, message: FlowBatch) -> None:
        self._link = message.link
        if message.rows:
            self._kept.extend(message.rows)
            self._came += len(message.rows)
            if self._still is None:
                self.show_filtered()
            else:
                self._came_paused += len(message.rows)
        self.show_mode()
        if self._gatherer is not None:
            self.call_after_refresh(self._gatherer.painted.set)

    def _show(self, rows: Sequence[T]) -> None:
        on_top = self.table.row is not None and self.table.rows and self.table.row is self.table.rows[0]
        super()._show(rows)
        if on_top and self._still is None:
            self.table.action_jump(0)

    @on(TapEnded)
    def _end(self, message: TapEnded) -> None:
        self._trouble = message.error
        if not self._opened:
            again = " yet" if is_away(message.error) else ""
            self.query_one("#flow-told", Static).update(f"nothing is watched{again}")
        self.show_filtered()
        self.show_mode()

    def show_mode(self) -> None:
        """Say how it goes."""
        self.query_one("#flow-mode", Static).update(self._mode(), layout=False)  # one line high

    def _mode(self) -> Content:
        if (error := self._trouble) is not None:
            tail = f", next try in {RETRY_S:.0f} s" if is_away(error) else f"  {error.hint or ''}"
            word = "refused: " if isinstance(error, GuardRefused) else ""
            return Content.assemble(("✖ ", "bold $text-error"), safe_text(f"{word}{error}{tail}"))
        if not self._opened:
            return Content.styled("○ opening", "$muted")
        if self._link is not None:
            lost = (f"✖ LINK {safe_text(self._link).upper()}", "bold $text-error")
            return Content.assemble(lost, "   nothing can be seen until it is back")
        mode = (
            ("▶ FOLLOWING", "bold $text-success")
            if self._still is None
            else (f"‖ PAUSED  {self._came_paused:,} new", "bold $text-warning")
        )
        return Content.assemble(mode, (f"   {self._came:,} seen", "$muted"))

    # --- keys

    def pause(self) -> None:
        """Stop the rows."""
        if self._still is None:
            self._still, self._came_paused = self._rows(), 0
            self.show_mode()

    def action_toggle_follow(self) -> None:
        """Stop the rows, or follow again."""
        if self._still is None:
            self.pause()
            return
        self._still = None
        self.show_filtered()
        self.table.action_jump(0)
        self.show_mode()

    def action_refresh_now(self) -> None:
        """Try again at once when watching had ended."""
        super().action_refresh_now()
        if self._trouble is not None:
            self._trouble, self._opened = None, False
            self.show_mode()
            self._watch()
