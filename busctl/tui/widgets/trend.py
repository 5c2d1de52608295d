"""Sparklines of a column: one scale for all, and nothing moves before its time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from busctl.tui.widgets.chart import ceiling
from busctl.views import formats


class Scale:
    """The common scale. Square roots: a queue of 300 is still seen beside one of 12,000."""

    def __init__(self) -> None:
        self.top = 1.0

    def take(self, values: Iterable[float]) -> None:
        """Fit the scale to these values; its end is a round number, so that it rarely changes."""
        self.top = math.sqrt(ceiling(max(values, default=0.0)))


def trend(samples: Sequence[tuple[float, float]], width: int, now: float, scale: Scale, span_s: float) -> str:
    """Draw samples as a line of blocks. Cells begin at whole steps of time: the line moves on once a step."""
    if not samples or width < 1:
        return ""
    step = span_s / width
    end = math.ceil(now / step) * step
    cells = formats.buckets(samples, width, span_s, end)
    return formats.sparkline([None if cell is None else math.sqrt(max(cell, 0.0)) for cell in cells], scale.top)
