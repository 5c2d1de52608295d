"""The open deliveries of a channel, and how they are settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from busctl_lib.amqp import wire


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

    def forget(self) -> None:
        """All that was open went back."""
        self._open.clear()

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

    Before, only the closing channel keeps a quorum queue's order.
    """
    version = str(server.get("version", "0"))
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) >= (4, 3)
