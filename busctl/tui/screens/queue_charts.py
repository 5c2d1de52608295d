"""The charts of one queue: its depth and its rates, over as much time as the broker remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from busctl.tui.screens.overview import rate_series
from busctl.tui.widgets.chart import Series
from busctl.views import queues
from busctl_lib.management import History

if TYPE_CHECKING:
    from busctl_lib.depths import Depth
    from busctl_lib.management.infos import Details, QueueInfo


class Span(NamedTuple):
    """How much time a chart shows."""

    title: str
    seconds: float
    asked: History | None
    """What to ask the broker for; None: the poller brings it."""
    remembered_s: float
    """How far the broker remembers a queue; what it gives as 0 before that is not known."""


SPANS = (
    Span("last 10 min", 600.0, None, 605.0),
    Span("last hour", 3600.0, History(3600, 60), 3600.0),
    Span("last 24 h (the broker keeps one of a queue)", 86400.0, History(3600, 60), 3600.0),
    Span("last minute", 60.0, History(60, 5), 605.0),
)


def depth_lines(info: QueueInfo, now: float, span: Span, history: Sequence[Depth] = ()) -> list[Series]:
    """Draw ready and unacked; our own samples where the broker has none yet."""
    since = now - span.remembered_s
    lines = [
        _depth("ready", info.messages_ready_details, info.messages_ready, now, since),
        _depth("unacked", info.messages_unacknowledged_details, info.messages_unacknowledged, now, since),
    ]
    if not lines[0].points and history:
        return [Series("messages", list(history), info.messages)]
    return lines


def rate_lines(info: QueueInfo, now: float, span: Span) -> list[Series]:
    """Draw what comes in, goes out and is acknowledged."""
    stats = info.message_stats
    lines = []
    for name, details in (
        ("in", stats.publish_details if stats else None),
        ("out", stats.deliver_get_details if stats else None),
        ("ack", stats.ack_details if stats else None),
    ):
        samples = queues.rates_between(details.samples if details else None)
        known = [point for point in samples if point[0] >= now - span.remembered_s]
        lines.append(rate_series(name, details, known, now))
    return lines


def _depth(name: str, details: Details | None, count: int | None, now: float, since: float) -> Series:
    samples = sorted((details.samples if details else None) or (), key=lambda sample: sample.timestamp)
    points = [(sample.timestamp / 1000, sample.sample) for sample in samples if sample.timestamp / 1000 >= since]
    if count is not None and points:
        points.append((max(now, points[-1][0]), count))
    return Series(name, points, count)
