"""Where a link is in its life, and what lives on it."""

from __future__ import annotations

import contextlib
import enum
import logging
import queue
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from busctl_lib.amqp.pika_compat import LinkConnection

logger = logging.getLogger(__name__)


class State(enum.Enum):
    """Where a link is in its life."""

    NEW = "new"
    CONNECTING = "connecting"
    REPLAYING = "replaying"
    OPEN = "open"
    BLOCKED = "blocked"
    RECOVERING = "recovering"
    CLOSING = "closing"
    CLOSED = "closed"


class LinkEvent(msgspec.Struct, frozen=True):
    """One change of a link's state."""

    link: str
    old: State
    new: State
    reason: str | None
    epoch: int
    """How often the link has been up."""
    at: float
    """Seconds since 1970."""
    heard_at: float | None = None
    """When the peer last sent anything, to a quarter of a second; None before the first connection."""


class Part(Protocol):
    """What lives on a link across its connections. Thread: the I/O thread."""

    async def start(self, connection: LinkConnection) -> None:
        """Come up on a new connection. Raises LinkLost only; other trouble is the part's own to handle."""

    async def finish(self) -> None:
        """Drain before a close: settle what is open. Must end when the link dies."""

    def resume(self) -> None:
        """The link takes publishes again."""

    def tick(self, now: float) -> None:
        """A quarter of a second has passed; `now` is monotonic."""


class Parts:
    """The parts of one link. Thread: the I/O thread."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def __contains__(self, part: Part) -> bool:
        return part in self._parts

    def add(self, part: Part) -> None:
        """Take in a part."""
        self._parts.append(part)

    def remove(self, part: Part) -> None:
        """Let a part go; one that is not there is fine."""
        if part in self._parts:
            self._parts.remove(part)

    async def bring_up(self, connection: LinkConnection) -> None:
        """Start all on a new connection, in the order they came; more may come meanwhile."""
        up: list[Part] = []
        while (part := next((each for each in self._parts if each not in up), None)) is not None:
            up.append(part)
            await part.start(connection)

    async def finish(self) -> None:
        """Let each settle what is open, in order."""
        for part in list(self._parts):
            await part.finish()

    def resume(self) -> None:
        """Tell all that the link takes publishes again."""
        for part in list(self._parts):
            part.resume()

    def tick(self, now: float) -> None:
        """Tell all the time."""
        for part in list(self._parts):
            part.tick(now)


class Announcer:
    """Tells listeners of link events on a thread of its own, in order, so that none can hold a link up."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[LinkEvent], None]] = []
        self._events: queue.SimpleQueue[LinkEvent | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, listener: Callable[[LinkEvent], None]) -> None:
        """Take in a listener."""
        with self._lock:
            self._listeners.append(listener)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="busctl-events", daemon=True)
                self._thread.start()

    def remove(self, listener: Callable[[LinkEvent], None]) -> None:
        """Let a listener go; one that is not there is fine."""
        with self._lock, contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    def tell(self, event: LinkEvent) -> None:
        """Pass an event on; costs nothing without listeners."""
        if self._listeners:
            self._events.put(event)

    def end(self) -> None:
        """Tell what is left and end the thread."""
        self._events.put(None)

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            for listener in list(self._listeners):
                try:
                    listener(event)
                except Exception:
                    logger.exception("a listener of link events failed")
