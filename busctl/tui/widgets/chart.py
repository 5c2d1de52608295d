"""Chart: a few lines over the last minutes, drawn with braille dots; no more than a table's price to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from busctl.views import formats

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LABELS = 6
"""Cells left of the plot: a number and the axis."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line."""

    name: str
    points: Sequence[tuple[float, float]]
    """(seconds since 1970, value), oldest first."""
    now: float | None = None
    """The value in the legend; the last point's when None."""


class Chart(Widget):
    """Up to three lines on one scale that begins at 0. Lines differ in their pattern as well as in their colour.

    Args:
        unit: Behind each number of the legend, as in "/s".
        text: How a number is written.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--axis", "chart--line-0", "chart--line-1", "chart--line-2"}
    DEFAULT_CSS = """
    Chart {
        height: 1fr;
        min-height: 5;
        & > .chart--axis { color: $muted; }
        & > .chart--line-0 { color: $primary; }
        & > .chart--line-1 { color: $secondary; }
        & > .chart--line-2 { color: $accent; }
    }
    """
    PATTERNS = ("──", "╌╌", "┈┈")

    def __init__(
        self,
        *,
        unit: str = "",
        text: Callable[[float | None], str] = formats.count,
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        super().__init__(id=id)
        self._unit = unit
        self._text = text
        self._series: Sequence[Series] = ()
        self._end = 0.0
        self._span_s = 600.0
        self._rows: list[Strip] | None = None

    def show(self, series: Sequence[Series], end: float, span_s: float = 600.0) -> None:
        """Show other lines: `span_s` seconds up to `end`."""
        self._series, self._end, self._span_s = series, end, span_s
        self._rows = None
        self.refresh()

    def on_resize(self) -> None:
        """Draw anew."""
        self._rows = None

    def notify_style_update(self) -> None:
        """Draw anew in other colours."""
        self._rows = None
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        if self._rows is None:
            self._rows = self._draw(self.size.width, self.size.height)
        return self._rows[y] if y < len(self._rows) else Strip.blank(self.size.width, self.rich_style)

    # --- drawing

    def _draw(self, width: int, height: int) -> list[Strip]:
        base = self.rich_style
        axis = base + self.get_component_rich_style("chart--axis", partial=True)
        lines = [base + self.get_component_rich_style(f"chart--line-{index}", partial=True) for index in range(3)]
        columns, rows = width - _LABELS, height - 2
        if columns < 8 or rows < 2:
            return []
        values = [value for series in self._series for at, value in series.points if at >= self._end - self._span_s]
        legend = [Segment(" " * _LABELS, base)]
        for index, series in enumerate(self._series[:3]):
            last = series.now if series.now is not None else (series.points[-1][1] if series.points else None)
            unit = self._unit if last is not None else ""
            gap = " " * (3 if columns > 40 else 1)
            legend += [
                Segment(f"{self.PATTERNS[index]} ", lines[index]),
                Segment(f"{series.name} {self._text(last)}{unit}{gap}", base),
            ]
        strips = [Strip(legend).adjust_cell_length(width, base)]
        top = ceiling(max(values, default=0.0))
        canvas = _Canvas(columns, rows)
        for index, series in enumerate(self._series[:3]):
            canvas.line(self._dots(series.points, columns * 2, rows * 4, top), index)
        for row in range(rows):
            strips.append(self._plot_row(canvas, row, top, axis, lines).adjust_cell_length(width, base))
        if not values:
            middle = 1 + rows // 2
            strips[middle] = Strip(
                [Segment(" " * (_LABELS - 1) + "│ ", axis), Segment("nothing measured yet", axis)]
            ).adjust_cell_length(width, base)
        return [*strips, self._time_axis(columns, axis).adjust_cell_length(width, base)]

    def _plot_row(self, canvas: _Canvas, row: int, top: float, axis: Style, lines: Sequence[Style]) -> Strip:
        label, sign = "", "│"
        if row == 0:
            label, sign = self._text(top), "┤"
        elif row == canvas.rows // 2 and canvas.rows >= 5 and canvas.rows % 2 == 0:
            label, sign = self._text(top / 2), "┤"
        segments = [Segment(f"{label:>{_LABELS - 1}}{sign}", axis)]
        for text, owner in canvas.runs(row):
            segments.append(Segment(text, lines[owner] if owner is not None else axis))
        return Strip(segments)

    def _time_axis(self, columns: int, axis: Style) -> Strip:
        left = f"└ {formats.duration(self._span_s)} ago "
        right = " now"
        middle = "─" * max(columns - len(left) + 1 - len(right), 0)
        text = f"{'0':>{_LABELS - 1}}{left}{middle}{right}"
        return Strip([Segment(set_cell_size(text, columns + _LABELS), axis)])

    def _dots(self, points: Sequence[tuple[float, float]], width: int, height: int, top: float) -> list[int | None]:
        """The height of the line in each column of dots; None outside of what is known."""
        heights: list[int | None] = [None] * width
        if not points:
            return heights
        start, step = self._end - self._span_s, self._span_s / width
        place = 0
        for x in range(width):
            at = start + (x + 1) * step
            while place + 1 < len(points) and points[place + 1][0] <= at:
                place += 1
            value = _between(points, place, at)
            if value is not None:
                heights[x] = round(min(max(value / top, 0.0), 1.0) * (height - 1))
        return heights


def _between(points: Sequence[tuple[float, float]], place: int, at: float) -> float | None:
    """The value at a time: on the straight line between its neighbours; after the last point its value holds."""
    left_at, left = points[place]
    if at < left_at:
        return None
    if place + 1 == len(points):
        return left
    right_at, right = points[place + 1]
    return left + (right - left) * (at - left_at) / (right_at - left_at) if right_at > left_at else right


class _Canvas:
    """Braille dots with an owner a cell."""

    def __init__(self, columns: int, rows: int) -> None:
        self.rows = rows
        self._masks = [[0] * columns for _ in range(rows)]
        self._owners: list[list[int | None]] = [[None] * columns for _ in range(rows)]

    def line(self, heights: Sequence[int | None], owner: int) -> None:
        """Join the heights; the second line is dashed, the third dotted."""
        before: int | None = None
        for x, height in enumerate(heights):
            if height is None:
                before = None
                continue
            drawn = owner == 0 or (x % 4 < 2 if owner == 1 else x % 4 == 0)
            if drawn:
                low, high = sorted((height, height if before is None else before))
                # A steep step fills the column between the two, without doubling its ends.
                for dot in range(low + (1 if before is not None and before < height else 0), high + 1):
                    self._set(x, dot, owner)
                self._set(x, height, owner)
            before = height

    def _set(self, x: int, dot: int, owner: int) -> None:
        row, within = divmod(self.rows * 4 - 1 - dot, 4)
        self._masks[row][x // 2] |= _DOTS[within][x % 2]
        if self._owners[row][x // 2] is None:
            self._owners[row][x // 2] = owner

    def runs(self, row: int) -> list[tuple[str, int | None]]:
        """The row as (text, owner) pieces."""
        runs: list[tuple[str, int | None]] = []
        for mask, owner in zip(self._masks[row], self._owners[row], strict=True):
            text = chr(0x2800 + mask) if mask else " "
            if runs and runs[-1][1] == owner:
                runs[-1] = (runs[-1][0] + text, owner)
            else:
                runs.append((text, owner))
        return runs


def ceiling(highest: float) -> float:
    """The end of a scale: a round number above, so that the scale rarely changes."""
    if highest <= 5:
        return 5.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if highest <= step * power * (1 + 1e-9))
