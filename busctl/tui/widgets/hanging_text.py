"""HangingText: labels and texts; what is too long for a line goes on under its text, not under its label."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import RenderResult
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget


class HangingText(Widget):
    """Lines of text.

    Args:
        hang: Cells by which the rest of a line is moved in.
        id: The widget's.
    """

    DEFAULT_CSS = "HangingText { height: auto; }"

    def __init__(self, hang: int, *, id: str) -> None:  # noqa: A002 - as every widget has it
        super().__init__(id=id)
        self._hang = hang
        self._content = Content("")

    def show(self, content: Content) -> None:
        """Show other lines."""
        self._content = content
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Count the lines there are at a width."""
        return sum(1 for _ in self._lines(width))

    def render(self) -> RenderResult:
        """Draw them."""
        return Content("\n").join(self._lines(self.content_size.width))

    def _lines(self, width: int) -> Iterator[Content]:
        hang = self._hang if width > 2 * self._hang else 0
        for line in self._content.split(allow_blank=True):
            first, *more = line.wrap(max(width, 1))
            yield first
            if more:
                _, rest = line.divide([len(line.plain) - len(line.plain[len(first.plain) :].lstrip())])
                for part in rest.wrap(max(width - hang, 1)):
                    yield part.pad_left(hang)
