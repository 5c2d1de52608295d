"""What a tap hands over: messages, and notes about those not seen, in a bounded buffer between it and its reader."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Literal, TypeAlias

import msgspec

from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError

BUFFER_MESSAGES = 10_000
BUFFER_BYTES = 64 * 2**20
_DROP_REPORT_S = 1.0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something a reader of the messages must know, told at its place among them."""

    kind: Literal["gap", "dropped", "changed"]
    text: str
    at: float
    """Seconds since 1970."""
    seconds: float | None = None
    """gap: how long nothing could be seen."""
    count: int | None = None
    """dropped: how many messages."""


TapEvent: TypeAlias = Delivery | Note
"""What a tap yields: a message, or what is to be said of those not seen."""


class Buffer:
    """Events between the I/O thread and a reader of any speed: full, it drops the oldest messages and counts them."""

    def __init__(self, max_messages: int = BUFFER_MESSAGES, max_bytes: int = BUFFER_BYTES) -> None:
        self.dropped = 0
        self._unreported = 0
        self._reported_at = 0.0
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._items: deque[TapEvent] = deque()
        self._kept: deque[Note] = deque()
        self._bytes = 0
        self._ended = False
        self._failure: BusError | None = None
        self._changed = threading.Condition()

    def put(self, event: TapEvent) -> None:
        """Add an event. Thread: any; never waits for the reader."""
        with self._changed:
            self._items.append(event)
            if isinstance(event, Delivery):
                self._bytes += len(event.body)
            while len(self._items) > self._max_messages or self._bytes > self._max_bytes:
                self._drop(self._items.popleft())
            self._changed.notify()

    def end(self, failure: BusError | None = None) -> None:
        """Let the reader finish what is there and then stop, with `failure` if there is one."""
        with self._changed:
            self._ended = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def get(self, timeout: float | None) -> TapEvent | None:
        """Take the next event; None when there was none in time, or no more will come (see `ended`).

        Raises:
            BusError: what ended the tap, after the events before it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._kept or self._ended, timeout):
                return self._drops(time.time())
            if self._kept:
                return self._kept.popleft()
            if (note := self._drops(time.time())) is not None:
                return note
            if self._items:
                event = self._items.popleft()
                self._bytes -= len(event.body) if isinstance(event, Delivery) else 0
                return event
            if self._failure is not None:
                raise self._failure
            return None

    def rest(self) -> list[Delivery]:
        """Give the messages that nobody took."""
        with self._changed:
            return [event for event in self._items if isinstance(event, Delivery)]

    def withdraw(self, since: float, queue: str | None = None) -> int:
        """Take back the messages that came since then and that nobody took, of one queue or all; returns how many."""

        def stays(event: TapEvent) -> bool:
            return isinstance(event, Note) or event.received_at < since or queue not in (None, event.queue)

        with self._changed:
            before = len(self._items)
            self._items = deque(event for event in self._items if stays(event))
            self._bytes = sum(len(event.body) for event in self._items if isinstance(event, Delivery))
            return before - len(self._items)

    @property
    def ended(self) -> bool:
        """Whether everything was taken and nothing more comes."""
        with self._changed:
            return self._ended and not self._items and not self._kept and not self._unreported

    def _drop(self, event: TapEvent) -> None:
        if isinstance(event, Note):
            self._kept.append(event)
            return
        self._bytes -= len(event.body)
        self.dropped += 1
        self._unreported += 1

    def _drops(self, now: float) -> Note | None:
        """Report drops where they happened, but not after each message of a reader that is always too slow."""
        if not self._unreported or (now - self._reported_at < _DROP_REPORT_S and self._items):
            return None
        count, self._unreported, self._reported_at = self._unreported, 0, now
        return Note(kind="dropped", text=f"{count:,} messages dropped: the reader is too slow", at=now, count=count)
