"""Turns: which of the queues on a screen are asked about now. What moves comes with every beat, what rests seldomer.

A request for one queue costs the broker about 2 ms, and most queues of a large bus rest most of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from busctl_lib.depths import QueueKey
from busctl_lib.management import QueueInfo, rate_of

Figures = tuple[int | None, ...]

REST_FIRST_S = 5.0
"""How long a queue in which nothing moved is left alone at first."""
REST_MAX_S = 20.0
"""So old what is shown of a resting queue may be; each answer that tells nothing new doubles the pause up to this."""


@dataclass(slots=True)
class _Turn:
    figures: Figures
    next_at: float
    pause_s: float


class Turns:
    """Remembers when each queue was asked about, and whether it moved since the time before."""

    def __init__(self) -> None:
        self._turns: dict[QueueKey, _Turn] = {}

    def due(self, queues: Mapping[QueueKey, QueueInfo], keys: Iterable[QueueKey]) -> set[QueueKey]:
        """Those of `keys` that moved when asked last, rested long enough, or have other counts in `queues` by now."""
        now, turns = time.monotonic(), self._turns  # which `forget` replaces, from any thread
        waiting = {key for key in keys if (turn := turns.get(key)) is not None and now < turn.next_at}
        return {key for key in keys if key not in waiting or _figures(queues.get(key)) != turns[key].figures}

    def told(self, info: QueueInfo) -> None:
        """Take an answer."""
        figures, before = _figures(info), self._turns.get(info.key)
        rests = before is not None and before.figures == figures and not _moves(info)
        pause_s = min(max(2 * before.pause_s, REST_FIRST_S), REST_MAX_S) if before is not None and rests else 0.0
        self._turns[info.key] = _Turn(figures, time.monotonic() + pause_s, pause_s)

    def forget(self, but: Iterable[QueueKey] = ()) -> None:
        """Whatever is not in `but` is due."""
        kept = set(but)
        self._turns = {key: turn for key, turn in self._turns.items() if key in kept}


def _figures(info: QueueInfo | None) -> Figures:
    return (info.messages_ready, info.messages_unacknowledged, info.consumers) if info is not None else ()


def _moves(info: QueueInfo) -> bool:
    growth = info.messages_details.rate if info.messages_details is not None else None
    return bool(growth) or any(rate_of(info.message_stats, name) for name in ("publish", "deliver_get", "ack"))
