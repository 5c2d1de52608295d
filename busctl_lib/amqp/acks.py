"""The open deliveries of a channel, and how they are settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from busctl_lib.amqp import wire

_BUNDLE = 25
"""More settlements than a channel is sure to hand to a queue before it takes the next method."""


class Acks:
    """What was delivered and is not settled, and acks in as few frames as is safe. Thread: the I/O thread.

    An ack says "and all before" only where nothing before is open, and names a tag that is: any other would close the
    channel.

    Args:
        channel: Its number.
    """

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._open: set[int] = set()
        self._last = 0
        self._lowest = 1
        """No tag below it is open."""
        self._marks: deque[tuple[float, int]] = deque()
        """What had been delivered when, a few times a second."""

    @property
    def open(self) -> int:
        """How many deliveries are not settled."""
        return len(self._open)

    def delivered(self, tag: int) -> None:
        """A delivery has come."""
        self._open.add(tag)
        self._last = tag

    def settle(self, tag: int) -> bool:
        """Note that a delivery is settled in whatever way; False when it was before."""
        if tag not in self._open:
            return False
        self._open.remove(tag)
        return True

    def youngest_first(self, *, one_by_one: bool = False) -> Iterator[bytes]:
        """Frames that give back what is open after a consumer timeout, in bundles to be answered one after the other.

        What is too old has gone back already. Named together with what has not (as a transaction does), or before it,
        it would be handed out to this channel once more, in silence (run on 4.3.6).
        """
        tags, size = sorted(self._open, reverse=True), 1 if one_by_one else _BUNDLE
        for place in range(0, len(tags), size):
            bundle = tags[place : place + size]
            yield b"".join(wire.encode_nack(self._channel, tag, requeue=True) for tag in bundle)

    def forget(self) -> None:
        """All that was open went back."""
        self._open.clear()
        self._marks.clear()

    def mark(self, now: float) -> None:
        """Note the time, to know how long a delivery is open."""
        if not self._open:
            self._marks.clear()
        elif not self._marks or self._marks[-1][1] != self._last:
            self._marks.append((now, self._last))

    def open_for(self, now: float) -> float | None:
        """How long the oldest of them is open, to a fraction of a second; None where none is."""
        if not self._open:
            return None
        oldest = min(self._open)
        while self._marks and self._marks[0][1] < oldest:
            self._marks.popleft()
        return now - self._marks[0][0] if self._marks else 0.0

    def encode(self, tags: Sequence[int]) -> bytes:
        """The frames that ack these deliveries, each of which is acked once."""
        self._open.difference_update(tags)
        while self._lowest <= self._last and self._lowest not in self._open:
            self._lowest += 1
        lowest = self._lowest
        last = max((tag for tag in tags if tag < lowest), default=0)
        frames = [wire.encode_ack(self._channel, last, multiple=True)] if last else []
        frames += [wire.encode_ack(self._channel, tag, multiple=False) for tag in tags if tag > lowest]
        return b"".join(frames)


def counts_lost_channels(server: Mapping[str, Any]) -> bool:
    """Whether a lost channel counts as a failed delivery, and giving back by name does not: from RabbitMQ 4.3 on.

    By name means all at once: 1,346 of 2,000 that were named one by one had not arrived before the channel was closed
    behind them (run on 4.3.6). Before 4.3 both count, and on 3.10 only the closing channel keeps an order.
    """
    version = str(server.get("version", "0"))
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) >= (4, 3)
