"""Depths: how many messages queues held over the last ten minutes, the broker's samples first, then our own."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from busctl_lib.management import History, QueueInfo

QueueKey = tuple[str, str]
"""(vhost, queue)."""

SAMPLE_EVERY_S = 5.0
"""The broker's own statistics move no faster."""
HISTORY = History(age_s=600, step_s=20)
"""How far back the samples of a queue reach, and how far apart they are."""

_SERIES_LENGTH = int(HISTORY.age_s / SAMPLE_EVERY_S)


class Depth(NamedTuple):
    """How many messages a queue held at one time."""

    at: float
    """Seconds since 1970, by the broker's clock or ours."""
    messages: float


class Depths:
    """Depth over time of the queues that are kept track of."""

    def __init__(self) -> None:
        self.asked: set[QueueKey] = set()
        """Queues whose samples were read from the broker."""
        self._filled: set[QueueKey] = set()
        self._newest: dict[QueueKey, QueueInfo] = {}
        self._series: dict[QueueKey, deque[Depth]] = {}

    def add(self, wall: float, queues: Mapping[QueueKey, QueueInfo], only: frozenset[QueueKey] | None) -> None:
        """Take what a beat knows at `wall`, of all queues or `only` of these; the others are let go of."""
        kept = queues.keys() if only is None else queues.keys() & only
        # A queue that went out of sight would come back with a gap: it is read from the broker again.
        for key in self._series.keys() - kept:
            del self._series[key]
            self._newest.pop(key, None)
        self.asked &= kept
        self._filled &= kept
        for key in kept:
            info = queues[key]
            series = self._series.setdefault(key, deque(maxlen=_SERIES_LENGTH))
            if key not in self._filled and (samples := _broker_depths(info, wall)):
                self._filled.add(key)
                older = [depth for depth in samples if not series or depth.at < series[0].at]
                series = self._series[key] = deque([*older, *series], maxlen=_SERIES_LENGTH)
            if info.messages is None or self._newest.get(key) is info:  # not asked about since: no new sample
                continue
            self._newest[key] = info
            if series and wall - series[-1].at < SAMPLE_EVERY_S:
                series[-1] = Depth(series[-1].at, info.messages)
            else:
                series.append(Depth(wall, info.messages))

    def copy(self) -> dict[QueueKey, tuple[Depth, ...]]:
        """All depths, oldest first."""
        return {key: tuple(series) for key, series in self._series.items()}


def _broker_depths(info: QueueInfo, now: float) -> list[Depth]:
    """Give the broker's samples, oldest first, by our clock."""
    samples = info.messages_details.samples if info.messages_details is not None else None
    if not samples:
        return []
    newest = max(sample.timestamp for sample in samples) / 1000
    # Clocks that agree leave the newest sample at most one step old.
    skew = now - newest if not 0 <= now - newest <= 2 * HISTORY.step_s else 0.0
    depths = [Depth(sample.timestamp / 1000 + skew, sample.sample) for sample in samples]
    return sorted(depth for depth in depths if depth.at <= now)
