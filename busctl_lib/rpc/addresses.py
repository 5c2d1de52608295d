"""Where replies come in: direct reply-to, an exclusive queue of one's own, or a queue that is shared with others."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

from busctl_lib.amqp.confirms import PublishChannel
from busctl_lib.amqp.replies import DIRECT_REPLY_TO, DirectReplies
from busctl_lib.broker import LinkEvent, MessageBroker, State, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused, LinkLost

logger = logging.getLogger(__name__)

_SHARED_PREFETCH = 5000
_HOLD_LEAST_S, _HOLD_MOST_S = 0.2, 3.2
_ASIDE_S = (0.02, 0.1)
_COUNTS = frozenset({"x-delivery-count", "x-acquired-count"})
"""What a quorum queue writes into a message that was delivered before."""


class Address(NamedTuple):
    """Where replies come in, and the channel on which requests that name it must go out."""

    channel: PublishChannel
    name: str


class Addresses:
    """Makes the reply address when it is first needed, and keeps it; a shared queue is read only during calls."""

    def __init__(
        self,
        broker: MessageBroker,
        mode: str,
        shared: str | None,
        *,
        is_mine: Callable[[Delivery], bool],
        on_reply: Callable[[Delivery], None],
        on_lost: Callable[[BusError], None],
    ) -> None:
        self._broker = broker
        self._mode = mode
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._address: Address | None = None
        self._shared = _SharedQueue(broker, shared, is_mine, on_reply) if shared is not None else None

    @contextlib.contextmanager
    def borrowed(self, timeout: float) -> Iterator[Address]:
        """Give the address for the time of one call."""
        links = self._broker.links
        links.publish.open()
        if self._shared is not None:
            with self._shared.read():
                yield Address(links.publish_channel, self._shared.name)
            return
        with self._lock:
            if self._address is None:
                self._address = self._direct(timeout) if self._mode != "queue" else self._queue()
        yield self._address

    def _direct(self, timeout: float) -> Address:
        link = self._broker.links.publish
        replies = DirectReplies(link, on_reply=self._on_reply, on_lost=self._on_lost)
        if self._mode == "auto" and replies.is_refused(timeout):
            logger.info("no direct reply-to here (%s); replies come by a queue", replies.refused)
            link.submit(lambda: link.remove(replies))
            return self._queue()
        return Address(replies, DIRECT_REPLY_TO)

    def _queue(self) -> Address:
        queue = self._broker.declare_queue(f"busctl.reply.{uuid.uuid4().hex}", exclusive=True).queue
        self._broker.subscribe(queue, self._on_reply, auto_ack=True)
        self._broker.add_listener(self._on_link_event)
        return Address(self._broker.links.publish_channel, queue)

    def _on_link_event(self, event: LinkEvent) -> None:
        """The reply queue went with the consume link; it is declared again, but replies sent meanwhile are gone."""
        if event.link == "consume" and event.old is State.OPEN and event.new is State.RECOVERING:
            self._on_lost(LinkLost(event.reason or "the connection was lost"))


class _SharedQueue:
    """A reply queue that others read too: ours are taken, theirs are put back where they were.

    Replies of others are held for a moment and then given back, each time a little longer, so that a queue full of them
    costs no storm of redeliveries. The reader steps aside meanwhile: two callers in step would else each be given the
    other's reply again and again, because the broker gives to its consumers in turn.
    """

    def __init__(
        self,
        broker: MessageBroker,
        name: str,
        is_mine: Callable[[Delivery], bool],
        on_reply: Callable[[Delivery], None],
    ) -> None:
        self.name = name
        self._broker = broker
        self._is_mine = is_mine
        self._on_reply = on_reply
        self._readers = 0
        self._lock = threading.Lock()
        self._subscription: Subscription | None = None
        self._refused: GuardRefused | None = None
        self._held = 0
        """Replies of others."""
        self._hold_s = _HOLD_LEAST_S
        self._due: float | None = None

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Take replies from the queue while at least one call is in here."""
        with self._lock:
            if self._subscription is None:
                self._start()
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._stop()

    def _start(self) -> None:
        if self._refused is not None:
            raise self._refused
        self._held, self._hold_s, self._due = 0, _HOLD_LEAST_S, None
        self._subscription = self._broker.subscribe(
            self.name, self._take, prefetch=_SHARED_PREFETCH, on_tick=self._tick
        )

    def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(BusError):  # what it holds goes back with the channel, however that ends
                subscription.cancel()

    # -- the I/O thread

    def _take(self, delivery: Delivery) -> None:
        subscription = self._subscription  # not yet there for what waited before any call: nothing of that is awaited
        if subscription is not None and self._is_mine(delivery):
            subscription.ack(delivery)
            self._on_reply(delivery)
            return
        self._held += 1
        if _COUNTS.intersection(delivery.headers):
            self._refused = GuardRefused(
                f"{self.name!r} is a quorum queue: giving back replies of others, or from RabbitMQ 4.3 on a lost link, "
                "counts as a failed delivery of each",
                hint="use a classic queue for shared replies, or direct reply-to",
                queue=self.name,
            )
            if subscription is not None:
                subscription.once()  # what is held would come again with each link that is lost

    def _tick(self, now: float) -> None:
        if not self._held:
            self._due = None
        elif self._due is None:
            self._due = now + self._hold_s
        elif now >= self._due and self._subscription is not None and self._refused is None:
            self._held, self._due = 0, None
            self._hold_s = min(self._hold_s * 2, _HOLD_MOST_S)
            self._subscription.step_aside(random.uniform(*_ASIDE_S))  # noqa: S311
