"""What a mover has in the hand: deliveries between the I/O thread and who takes them, and who counts them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError


class Look(Protocol):
    """Who counts what is taken and goes back. Thread: the I/O thread."""

    @property
    def near(self) -> BusError | None:
        """Why no more may be taken."""

    def saw(self, delivery: Delivery) -> None:
        """It was taken."""

    def again(self) -> None:
        """All went back with a lost link, and is about to be taken once more. Raises BusError: it may not."""


class Hand:
    """Deliveries of one epoch after another; each connection is a new one, in which all comes again.

    Args:
        look: Counts them.
    """

    def __init__(self, look: Look | None = None) -> None:
        self.failure: BusError | None = None
        """Why no more come at all."""
        self._look = look
        self._buffer: deque[Delivery] = deque()
        self._arrived = threading.Condition()
        self._waiting = False

    # -- the owner's thread

    def take(self, most: int, timeout: float, epoch: int) -> list[Delivery]:
        """The next deliveries of an epoch, at least one unless none came in time, or another epoch has begun."""
        if not self._buffer:
            with self._arrived:
                self._waiting = True
                if not self._buffer:
                    self._arrived.wait(timeout)
                self._waiting = False
        taken: list[Delivery] = []
        buffer = self._buffer
        while len(taken) < most:
            try:
                delivery = buffer.popleft()
            except IndexError:  # the I/O thread may empty it at any moment
                break
            if delivery.epoch > epoch:
                buffer.appendleft(delivery)
                break
            if delivery.epoch == epoch:
                taken.append(delivery)
        return taken

    def push_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries back that were taken and looked at; the next `take` gives them again, in order."""
        self._buffer.extendleft(reversed(deliveries))

    # -- the I/O thread

    def begin(self, *, lost: bool) -> None:
        """Forget what is there: it comes again.

        Args:
            lost: Whether it went back with a lost link.

        Raises:
            BusError: it may not be taken again.
        """
        if lost and self._look is not None:
            self._look.again()
        self._buffer.clear()

    def put(self, delivery: Delivery) -> None:
        """Keep a delivery for the owner."""
        self._buffer.append(delivery)
        if self._look is not None:
            self._look.saw(delivery)
            if self._look.near is not None:
                self.fail(self._look.near)
        if self._waiting:
            self.wake()

    def fail(self, error: BusError) -> None:
        """Nothing more comes."""
        self.failure = self.failure or error
        self.wake()

    def wake(self) -> None:
        """Let the owner look what has changed."""
        with self._arrived:
            self._arrived.notify_all()
