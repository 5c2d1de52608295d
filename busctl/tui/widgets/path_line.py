"""PathLine: the way one came, and what one is looking at."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.app import RenderResult
from textual.content import Content
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
        for place, crumb in enumerate(crumbs):
            if place:
                parts.append((_ARROW, "$muted"))
            parts.append((crumb, "bold $text-primary" if place == len(crumbs) - 1 else "$muted"))
        if filtered:
            parts.append((filtered, "bold $text-accent"))
        used = sum(cell_len(part if isinstance(part, str) else part[0]) for part in parts)
        right = [(command, "$muted"), ("   " if command and facts else "", ""), (facts, "")]
        gap = width - used - sum(cell_len(text) for text, _ in right)
        return Content.assemble(*parts, " " * max(gap, 1), *right)
