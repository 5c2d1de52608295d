"""One queue being consumed: a subscription, its worker threads and what they are at."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue as queues
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError
from busctl_lib.retry import stage_of

logger = logging.getLogger(__name__)

_REMEMBERED = 1000
_WARN_AT = (0.5, 0.8)


class Options(NamedTuple):
    """How a queue is consumed, by the names of MessageConsumer."""

    prefetch: int
    workers: int
    ordering: str
    key: Callable[[Delivery], Hashable]
    consumer_timeout_s: float


class Running:
    """One queue being consumed: a subscription, its worker threads and what they are at."""

    def __init__(self, queue: str, options: Options, handle: Callable[[Delivery, Running], None]) -> None:
        self._handle = handle
        self._queue = queue
        self._options = options
        shared = options.ordering == "none"
        lanes = 1 if shared or options.ordering == "queue" else options.workers
        self._lanes: list[queues.SimpleQueue[Delivery | None]] = [queues.SimpleQueue() for _ in range(lanes)]
        self._stop = threading.Event()
        self.subscription: Subscription = None  # type: ignore[assignment]  # set by start()
        self._at_work: dict[int, tuple[float, Delivery, int]] = {}
        self._answering = 0
        self._answered = threading.Condition()
        self._handled: OrderedDict[Hashable, None] = OrderedDict()
        workers = 1 if options.ordering == "queue" else options.workers
        self._threads = [
            threading.Thread(
                target=self._work, args=(self._lanes[n % lanes],), name=f"busctl-worker-{queue}-{n}", daemon=True
            )
            for n in range(workers)
        ]

    def start(self, broker: MessageBroker) -> None:
        """Subscribe and begin to work. Raises as `MessageBroker.subscribe`."""
        put = self._lanes[0].put if len(self._lanes) == 1 else self._put_by_key
        self.subscription = broker.subscribe(self._queue, put, prefetch=self._options.prefetch, on_tick=self._watch)
        for thread in self._threads:
            thread.start()

    def _put_by_key(self, delivery: Delivery) -> None:
        try:
            lane = hash(self._options.key(delivery)) % len(self._lanes)
        except Exception:
            logger.exception("message %r has no key; it goes with the others without", delivery.properties.message_id)
            lane = 0
        self._lanes[lane].put(delivery)

    def _work(self, lane: queues.SimpleQueue[Delivery | None]) -> None:
        subscription, me = self.subscription, threading.get_ident()
        while (delivery := lane.get()) is not None:
            if delivery.epoch != subscription.epoch or self._stop.is_set():
                continue  # back in the queue with its channel, or when the subscription ends
            if delivery.redelivered and _mark(delivery) in self._handled:
                logger.info("message %r was handled before; only its ack was lost", delivery.properties.message_id)
                subscription.ack(delivery)
            else:
                self._at_work[me] = (time.monotonic(), delivery, 0)
                try:
                    self._handle(delivery, self)
                except Exception:  # a fault of ours or of a tracer: the next message is not to wait for ever
                    logger.exception("message %r was not settled", delivery.properties.message_id)
                self._at_work.pop(me, None)

    def holds(self, delivery: Delivery, wait_s: float) -> bool:
        """Wait a moment; False when the message is to be left: it went back with its channel, or consuming stops."""
        return not self._stop.wait(wait_s) and delivery.epoch == self.subscription.epoch

    def done(self, delivery: Delivery) -> None:
        """Ack a handled message and remember it, should the ack get lost with the link."""
        if delivery.properties.message_id is not None:
            self._handled[_mark(delivery)] = None
            if len(self._handled) > _REMEMBERED:
                with contextlib.suppress(KeyError):
                    self._handled.popitem(last=False)
        self.subscription.ack(delivery)

    def answering(self, change: int) -> None:
        """Count the replies whose confirm is awaited, so that a stop waits for them."""
        with self._answered:
            self._answering += change
            if not self._answering:
                self._answered.notify_all()

    def _watch(self, now: float) -> None:
        """Warn of handlers that near the broker's consumer timeout: it would take the message back."""
        limit = self._options.consumer_timeout_s
        for worker, (started, delivery, warned) in list(self._at_work.items()):
            step = sum(now - started > limit * share for share in _WARN_AT)
            if step > warned:
                self._at_work[worker] = (started, delivery, step)
                logger.warning(
                    "a handler of %r is at message %r for %.0f s; the broker takes it back after %.0f s",
                    self._queue,
                    delivery.properties.message_id,
                    now - started,
                    limit,
                )

    def works_here(self) -> bool:
        """Whether the caller is one of its worker threads."""
        return threading.current_thread() in self._threads

    def stop(self, timeout: float) -> None:
        """Pause, let the handlers end, wait for their replies' confirms, cancel."""
        deadline = time.monotonic() + timeout
        self._stop.set()
        with contextlib.suppress(BusError):
            self.subscription.pause(timeout)
        for _, lane in zip(self._threads, itertools.cycle(self._lanes), strict=False):
            lane.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._answered:
            self._answered.wait_for(lambda: not self._answering, max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(BusError):
            self.subscription.cancel(max(0.5, deadline - time.monotonic()))


def _mark(delivery: Delivery) -> Hashable:
    """What tells a message from its own later attempts and replays, and from another one with the same id."""
    properties = delivery.properties
    return properties.message_id, stage_of(properties.headers), hash(delivery.body)
