"""Responder: one queue of requests answered by a function, on worker threads, each request acked after its answer."""

from __future__ import annotations

import contextlib
import logging
import queue as queues
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from busctl_lib.amqp.confirms import Entry
from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.envelope import Delivery, Envelope, Outcome
from busctl_lib.errors import BusError, ConfigError
from busctl_lib.publishers import MessagePublisher
from busctl_lib.rpc.answers import error_envelope, is_expired
from busctl_lib.tracing import continued

logger = logging.getLogger(__name__)

Answer = Callable[[Delivery], Envelope | None]
"""Called on a worker thread with a request; gives its reply, or None for no reply. What it raises is answered."""

_REPLY_TRIES = 3
_REMEMBERED = 1000


class _Work:
    """A request being worked on."""

    __slots__ = ("answered", "delivery", "started")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.started = time.monotonic()
        self.answered = False


class Responder:
    """Consumes a queue of requests and sends what `answer` gives.

    A request is acked once its reply is confirmed (or cannot be delivered: the caller is gone). One whose deadline is
    past is not worked on. One that has no `reply_to` is worked on without an answer, and dead-lettered if that fails.

    Args:
        broker: where from.
        queue: where requests come in; it is not declared.
        answer: the work.
        concurrency: how many requests at once.
        deadline_s: when work takes longer, the caller is told so (error DeadlineExceeded) and its result is dropped.
    """

    def __init__(
        self,
        broker: MessageBroker,
        queue: str,
        answer: Answer,
        *,
        concurrency: int = 1,
        deadline_s: float | None = None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, found {concurrency}")
        if deadline_s is not None and not deadline_s > 0:
            raise ConfigError(f"deadline_s must be above 0, found {deadline_s:g}")
        self.queue = queue
        self.answered = self.failed = self.expired = 0
        """Requests replied to, replied to with an error, and not worked on since nobody waited any more."""
        self._broker = broker
        self._answer = answer
        self._concurrency = concurrency
        self._deadline_s = deadline_s
        self._publisher = MessagePublisher(broker)
        self._requests: queues.SimpleQueue[Delivery | None] = queues.SimpleQueue()
        self._at_work: dict[int, _Work] = {}
        self._threads: list[threading.Thread] = []
        self._subscription: Subscription | None = None
        self._stopping = False
        self._stopped = threading.Lock()
        self._open_replies = 0
        self._changed = threading.Condition()
        self._handled: OrderedDict[str, None] = OrderedDict()
        broker.links.before_close(self)

    def start(self) -> None:
        """Take requests from now on. Raises NotFound when there is no such queue."""
        if self._subscription is not None:
            return
        self._stopping = False
        self._subscription = self._broker.subscribe(
            self.queue, self._requests.put, prefetch=min(2 * self._concurrency, 65535), on_tick=self._tick
        )
        self._threads = [
            threading.Thread(target=self._work, args=(self._subscription,), name=f"busctl-rpc-{number}", daemon=True)
            for number in range(self._concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Take no more requests, finish those being worked on, wait for their replies' confirms, give back the rest.

        Called by the work itself it returns at once, since that must end first.
        """
        if threading.current_thread() in self._threads:
            threading.Thread(target=self._finish, args=(timeout,), name="busctl-rpc-stop", daemon=True).start()
        else:
            self._finish(timeout)

    def _finish(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._stopped:  # whoever comes second waits: its next step may be to close the broker
            subscription = self._subscription
            if subscription is None:
                return
            self._stopping = True
            with contextlib.suppress(BusError):
                subscription.pause(timeout)
            for _ in self._threads:
                self._requests.put(None)
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            with self._changed:
                self._changed.wait_for(lambda: not self._open_replies, max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(BusError):
                subscription.cancel(max(0.5, deadline - time.monotonic()))
            self._subscription, self._threads = None, []

    # -- the workers

    def _work(self, subscription: Subscription) -> None:
        me = threading.get_ident()
        while (delivery := self._requests.get()) is not None:
            if delivery.epoch != subscription.epoch or self._stopping:
                continue  # back in the queue with its channel, or when the subscription ends
            if delivery.redelivered and delivery.properties.message_id in self._handled:
                subscription.ack(delivery)  # it was answered before; only its ack was lost
            elif is_expired(delivery.properties):
                self.expired += 1
                logger.info("a request of %r came too late to be answered", self.queue)
                subscription.ack(delivery)
            else:
                work = self._at_work[me] = _Work(delivery)
                self._do_traced(work, subscription)
                del self._at_work[me]

    def _do_traced(self, work: _Work, subscription: Subscription) -> None:
        tracer = self._broker.tracer
        if tracer is None:
            with continued(work.delivery.properties.headers):
                self._do(work, subscription)
            return
        with tracer.processing(work.delivery) as span:
            error = self._do(work, subscription)
            if error is not None:
                span.failed(error)

    def _do(self, work: _Work, subscription: Subscription) -> Exception | None:
        """Work on a request and answer it; returns what went wrong."""
        delivery = work.delivery
        asked = bool(delivery.properties.reply_to)
        try:
            reply = self._answer(delivery)
        except Exception as error:  # noqa: BLE001 - whatever the work raises is the caller's to know
            self._failed(work, error, subscription)
            return error
        if work.answered:
            logger.warning("work on a request of %r ended after its deadline; its result is dropped", self.queue)
        elif asked and reply is not None:
            self.answered += 1
            self._send(reply, delivery, subscription)
        else:
            self._done(delivery, subscription)
        return None

    def _failed(self, work: _Work, error: Exception, subscription: Subscription) -> None:
        known = isinstance(error, BusError)
        logger.log(
            logging.INFO if known else logging.WARNING,
            "a request of %r failed: %s",
            self.queue,
            error,
            exc_info=not known,
        )
        self.failed += 1
        if work.answered:
            return
        if work.delivery.properties.reply_to:
            kind = getattr(error, "type", None) or type(error).__name__
            self._send(error_envelope(work.delivery.properties, str(kind), str(error)), work.delivery, subscription)
        else:
            subscription.dead_letter(work.delivery)

    def _tick(self, _now: float) -> None:
        """Answer for work that takes too long. Thread: I/O."""
        limit, subscription = self._deadline_s, self._subscription
        if limit is None or subscription is None:
            return
        for work in list(self._at_work.values()):
            if not work.answered and time.monotonic() - work.started > limit:
                work.answered = True
                self.failed += 1
                text = f"no result within {limit:g} s"
                logger.warning("a request of %r: %s", self.queue, text)
                if work.delivery.properties.reply_to:
                    reply = error_envelope(work.delivery.properties, "DeadlineExceeded", text)
                    self._apart(reply, work.delivery, subscription, _REPLY_TRIES)
                else:
                    subscription.dead_letter(work.delivery)

    # -- replies

    def _send(self, reply: Envelope, delivery: Delivery, subscription: Subscription, tries: int = _REPLY_TRIES) -> None:
        """Send a reply; the request is acked once the reply is the broker's, or its caller is gone."""

        def settled(entry: Entry) -> None:
            if entry.outcome in (Outcome.UNKNOWN, Outcome.NEVER_SENT) and tries > 1:
                self._apart(reply, delivery, subscription, tries - 1)
                return
            if entry.outcome is not Outcome.CONFIRMED:
                logger.info("a reply to %r was not delivered: %s", reply.routing_key, entry.outcome)
            self._done(delivery, subscription)
            self._count_open(-1)

        if tries == _REPLY_TRIES:
            self._count_open(+1)
        try:
            self._publisher.send_envelope(reply, settled)
        except BusError as error:
            logger.warning("a reply to %r was not sent: %s", reply.routing_key, error)
            self._done(delivery, subscription)
            self._count_open(-1)

    def _apart(self, *arguments: Any) -> None:
        """Send on a thread of its own: it may wait, and the I/O thread must not."""
        threading.Thread(target=self._send, args=arguments, daemon=True).start()

    def _count_open(self, change: int) -> None:
        with self._changed:
            self._open_replies += change
            self._changed.notify_all()

    def _done(self, delivery: Delivery, subscription: Subscription) -> None:
        """Ack a request and remember it, should the ack get lost with the link."""
        if (message_id := delivery.properties.message_id) is not None:
            self._handled[message_id] = None
            if len(self._handled) > _REMEMBERED:
                with contextlib.suppress(KeyError):
                    self._handled.popitem(last=False)
        subscription.ack(delivery)
