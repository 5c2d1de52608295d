"""Room: whether the queues on the way have room for what is coming.

A queue with a length limit and the default overflow confirms every message and drops its oldest ones for it, inside a
transaction too: nothing but its limit tells beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

from busctl_lib.broker import MessageBroker
from busctl_lib.transfers.routes import Limits


class Room:
    """Counts what goes to queues that drop their oldest messages when they are full."""

    def __init__(self) -> None:
        self.buried: list[str] = []
        """Of queues that are too full, but whose dead-letter exchange gets what they drop: sentences."""
        self._limits: dict[str, Limits] = {}
        self._ways: dict[Hashable, list[str]] = {}
        self._coming: Counter[str] = Counter()
        self._coming_bytes: Counter[str] = Counter()

    def open(self, way: Hashable, limits: Mapping[str, Limits]) -> None:
        """Name the limited queues that a way leads to."""
        if limits:
            self._ways[way] = list(limits)
            self._limits.update(limits)

    def add(self, way: Hashable, size: int) -> None:
        """Count a message of so many bytes that goes a way."""
        for name in self._ways.get(way, ()):
            self._coming[name] += 1
            self._coming_bytes[name] += size

    def overfull(self, broker: MessageBroker, *, at_least: int) -> list[str]:
        """Why messages would be lost where they arrive, a sentence a queue.

        Args:
            broker: Asked for what waits in them now.
            at_least: How many may go to each queue, where not all messages were read.
        """
        lost = []
        for name, limits in self._limits.items():
            waiting = broker.declare_queue(name, passive=True).message_count
            coming = max(self._coming[name], at_least)
            if limits.messages is not None and waiting + coming > limits.messages:
                full = f"{name!r} keeps {limits.messages:,} messages, {waiting:,} wait there and {coming:,} are coming"
            elif limits.size is not None and limits.size_now + self._coming_bytes[name] > limits.size:
                full = f"{name!r} keeps {limits.size:,} bytes and has no room for {coming:,} more messages"
            else:
                continue
            if limits.buries:
                self.buried.append(f"{full}: its dead-letter exchange gets its oldest")
            else:
                lost.append(f"{full}: it would drop its oldest")
        return lost
