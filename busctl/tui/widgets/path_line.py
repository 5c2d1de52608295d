"""PathLine: the way one came, and what one is looking at."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.app import RenderResult
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

_ARROW = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "


class PathLine(Widget):
    """Breadcrumbs and the filter on the left; counts, order and the command line on the right."""

    DEFAULT_CSS = """
    PathLine { height: 1; padding: 0 1; background: $background; }
    """

    crumbs: reactive[tuple[str, ...]] = reactive(())
    filtered: reactive[str] = reactive("")
    facts: reactive[str] = reactive("")
    command: reactive[str] = reactive("")

    class Chosen(Message):
        """A click on the way.

        Args:
            up: How many places lie above the one that was clicked.
        """

        def __init__(self, up: int) -> None:
            super().__init__()
            self.up = up

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[int] = []
        """Where each crumb that is shown ends."""

    def show(self, crumbs: Sequence[str]) -> None:
        """Show another way."""
        self.crumbs = tuple(crumbs)

    def render(self) -> RenderResult:
        """Draw it; the command line goes first when room is short, then the beginning of the way."""
        width = self.size.width
        facts = self.facts
        command = f"$ {self.command}" if self.command else ""
        crumbs = list(self.crumbs)
        filtered = f" /{self.filtered}" if self.filtered else ""
        left = cell_len(_ARROW.join(crumbs)) + cell_len(filtered)
        if left + cell_len(facts) + cell_len(command) + 6 > width:
            command = ""
        while len(crumbs) > 1 and cell_len(_ARROW.join(crumbs)) + cell_len(filtered) + cell_len(facts) + 2 > width:
            crumbs = ["…", *crumbs[2:]] if crumbs[0] == "…" else ["…", *crumbs[1:]]
            if crumbs == ["…"]:
                crumbs = list(self.crumbs[-1:])
        parts: list[tuple[str, str] | str] = []
        self._ends = []
        for place, crumb in enumerate(crumbs):
            if place:
                parts.append((_ARROW, "$muted"))
            parts.append((crumb, "bold $text-primary" if place == len(crumbs) - 1 else "$muted"))
            self._ends.append(cell_len(_ARROW.join(crumbs[: place + 1])))
        if filtered:
            parts.append((filtered, "bold $text-accent"))
        used = sum(cell_len(part if isinstance(part, str) else part[0]) for part in parts)
        right = [(command, "$muted"), ("   " if command and facts else "", ""), (facts, "")]
        gap = width - used - sum(cell_len(text) for text, _ in right)
        return Content.assemble(*parts, " " * max(gap, 1), *right)

    def on_click(self, event: events.Click) -> None:
        """Lead to the place that was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and (place := sum(end <= offset.x for end in self._ends)) < len(self._ends):
            self.post_message(self.Chosen(len(self._ends) - 1 - place))
