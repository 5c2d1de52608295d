"""Several taps read as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError
from busctl_lib.taps.buffers import Buffer, Note, TapEvent
from busctl_lib.taps.tap import Tap


class Taps:
    """One or several taps, read through one buffer; opened on entering, all given back on leaving.

    When one of several ends (its queue was deleted), that is a note; with the last of them it is an error.

    Thread: one, the reader's.
    """

    def __init__(self, taps: Sequence[Tap]) -> None:
        self.taps = list(taps)
        self._buffer = self.taps[0].buffer if len(self.taps) == 1 else Buffer()
        self._open = len(self.taps)
        self._by_queue = {tap.plan.queue: tap for tap in self.taps}
        if len(self.taps) > 1:
            for tap in self.taps:
                tap.buffer = _Share(self, self._buffer, tap)

    def __enter__(self) -> Self:
        try:
            for tap in self.taps:
                tap.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def next(self, timeout: float | None = None) -> TapEvent | None:
        """Wait for the next event of any; None after `timeout` seconds. Raises BusError when none can go on."""
        if len(self.taps) == 1:
            return self.taps[0].next(timeout)
        event = self._buffer.get(timeout)
        if isinstance(event, Delivery):
            self._tap_of(event).taken(event)
        return event

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Say that messages were written out."""
        for delivery in deliveries:
            self._tap_of(delivery).settle([delivery])

    def close(self) -> None:
        """Give everything back."""
        for tap in self.taps:
            tap.close()

    @property
    def sentences(self) -> list[str]:
        """After closing: what looking did, and what could not be given back."""
        return [text for tap in self.taps for text in (tap.account, tap.left_behind) if text is not None]

    def _tap_of(self, delivery: Delivery) -> Tap:
        return self._by_queue.get(delivery.queue) or self.taps[0]

    def _ended(self, tap: Tap, failure: BusError | None) -> None:
        self._open -= 1
        if self._open <= 0:
            self._buffer.end(failure)
        elif failure is not None:
            text = f"{tap.plan.target} is no longer watched: {failure}"
            self._buffer.put(Note(kind="changed", text=text, at=time.time()))


class _Share(Buffer):
    """What one of several taps has for a buffer: a way into the common one."""

    def __init__(self, taps: Taps, whole: Buffer, tap: Tap) -> None:
        super().__init__()
        self._taps, self._whole, self._tap = taps, whole, tap
        self._over = False

    def put(self, event: TapEvent) -> None:
        if isinstance(event, Note):
            event = Note(
                kind=event.kind,
                text=f"{self._tap.plan.target}: {event.text}",
                at=event.at,
                seconds=event.seconds,
                count=event.count,
            )
        self._whole.put(event)

    def end(self, failure: BusError | None = None) -> None:
        if not self._over:
            self._over = True
            self._taps._ended(self._tap, failure)

    def withdraw(self, since: float, queue: str | None = None) -> int:
        return self._whole.withdraw(since, queue or self._tap.plan.queue)

    def rest(self) -> list[Delivery]:
        return [delivery for delivery in self._whole.rest() if delivery.queue == self._tap.plan.queue]
