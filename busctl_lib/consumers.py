"""MessageConsumer: handlers by action, on worker threads, acknowledged only when the work is done."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue as queues
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, NamedTuple

from busctl_lib.amqp.confirms import Entry
from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.codecs import decode_json
from busctl_lib.envelope import Delivery, Envelope, Outcome, Properties
from busctl_lib.errors import BusError, CodecError, ConfigError, InvalidMessage
from busctl_lib.publishers import MessagePublisher
from busctl_lib.rpc import RPCConsumer, error_envelope, is_expired, reply_envelope
from busctl_lib.schemas import validate

__all__ = ["Handler", "MessageConsumer", "RPCConsumer", "Reject"]

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Properties], Any]
"""Called with the message and its properties; what it returns, if anything, is the reply."""

_REPLY_TRIES = 3
_REMEMBERED = 1000
_WARN_AT = (0.5, 0.8)


class Reject(Exception):
    """Raised by a handler: this message must not be tried again. It goes to the dead-letter exchange."""


class MessageConsumer:
    """Consumes queues and calls the handler registered for each message's `action`.

    A message is acked after its handler returned and its reply, if one is due, was confirmed. A handler that raises
    sends the caller an error reply where one is expected; otherwise the message is dead-lettered. So is a message that
    is not a JSON object, has no handler, or is against its schema.

    Args:
        broker: where from.
        prefetch: how many unsettled messages a queue hands out at once.
        workers: handler threads a queue.
        ordering: "none": any worker takes any message; "queue": one after the other, in the queue's order; "key": in
            order among messages of one key, different keys side by side.
        key: what "key" goes by; the routing key unless given.
        schemas: action -> TypedDict; messages are checked before their handler sees them.
        consumer_timeout_s: the broker's consumer timeout; a handler that nears it is logged.
    """

    def __init__(
        self,
        broker: MessageBroker,
        *,
        prefetch: int = 20,
        workers: int = 1,
        ordering: Literal["none", "queue", "key"] = "none",
        key: Callable[[Delivery], Hashable] = lambda delivery: delivery.routing_key,
        schemas: Mapping[str, type] | None = None,
        consumer_timeout_s: float = 1800.0,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, found {workers}")
        if ordering not in ("none", "queue", "key"):
            raise ConfigError(f"ordering must be none, queue or key, found {ordering!r}")
        self._broker = broker
        self._options = _Options(max(prefetch, workers), workers, ordering, key, consumer_timeout_s)
        self._schemas = schemas or {}
        self._handlers: dict[str, Handler] = {}
        self._default: Handler | None = None
        self._publisher = MessagePublisher(broker)
        broker.links.before_close(self.stop)
        self._running: list[_Running] = []
        self._stop = threading.Event()
        self._finishing = threading.Lock()

    def register_handler(self, action: str, handler: Handler) -> None:
        """Call `handler(message, properties)` for messages whose `action` is this one."""
        self._handlers[action] = handler

    def register_default(self, handler: Handler) -> None:
        """Call `handler(message, properties)` for messages no other handler is for."""
        self._default = handler

    def start_consuming(self, queue: str, *, background: bool = False) -> None:
        """Consume a queue until `stop()`, which another thread or a handler calls.

        Args:
            queue: its name.
            background: return at once; several queues may be consumed this way.

        Raises:
            NotFound: no such queue. BusError: the broker's other refusals.
        """
        self._stop.clear()
        running = _Running(self, queue, self._options)
        self._running.append(running)
        try:
            running.start(self._broker)
        except BaseException:
            self._running.remove(running)
            raise
        if background:
            return
        try:
            self._stop.wait()
        finally:
            self.stop()

    def stop(self, timeout: float = 30.0) -> None:
        """Stop taking messages, finish those being handled, give back the rest.

        Returns when that is done; called by a handler, at once, since the handler itself must end first.
        """
        self._stop.set()
        if any(running.works_here() for running in list(self._running)):
            threading.Thread(target=self._finish, args=(timeout,), name="busctl-stop", daemon=True).start()
        else:
            self._finish(timeout)

    def _finish(self, timeout: float) -> None:
        with self._finishing:  # whoever comes second waits: its next step may be to close the broker
            while self._running:
                self._running[-1].stop(timeout)
                self._running.pop()

    # -- one message

    def _handle(self, delivery: Delivery, running: _Running) -> None:
        properties = delivery.properties
        if properties.reply_to and is_expired(properties):
            logger.info("a request of %r came too late to be answered", delivery.queue)
            running.done(delivery)
            return
        try:
            message = self._message(delivery)
            handler = self._handler(message)
            result = handler(message, properties)
            reply = reply_envelope(properties, result) if properties.reply_to and result is not None else None
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the message's fate, not ours
            self._failed(delivery, running, error)
            return
        if reply is None:
            running.done(delivery)
        else:
            self._answer(reply, delivery, running)

    def _message(self, delivery: Delivery) -> dict[str, Any]:
        message = decode_json(delivery.body)
        if not isinstance(message, dict):
            raise InvalidMessage(
                "the message is not a JSON object", field="", expected="an object", found=type(message).__name__
            )
        action = message.get("action")
        schema = self._schemas.get(action) if isinstance(action, str) else None
        if schema is not None:
            validate(message, schema)
        return message

    def _handler(self, message: dict[str, Any]) -> Handler:
        action = message.get("action")
        handler = self._handlers.get(action) if isinstance(action, str) else None
        handler = handler or self._default
        if handler is None:
            raise InvalidMessage(
                f"no handler for action {action!r:.80}",
                field="action",
                expected=f"one of {', '.join(self._handlers)}",
                found=repr(action)[:80],
            )
        return handler

    def _failed(self, delivery: Delivery, running: _Running, error: Exception) -> None:
        known = isinstance(error, (Reject, InvalidMessage, CodecError))
        logger.log(
            logging.INFO if known else logging.WARNING,
            "a message of %r failed: %s",
            delivery.queue,
            error,
            exc_info=not known,
        )
        if delivery.properties.reply_to:
            reply = error_envelope(delivery.properties, type(error).__name__, str(error))
            self._answer(reply, delivery, running)
        else:
            running.subscription.dead_letter(delivery)

    def _answer(self, reply: Envelope, delivery: Delivery, running: _Running) -> None:
        """Send a reply; the request is acked once the reply is the broker's, or its requester is gone."""
        running.answering(+1)
        self._send_reply(reply, delivery, running, _REPLY_TRIES)

    def _send_reply(self, reply: Envelope, delivery: Delivery, running: _Running, tries: int) -> None:
        def settled(entry: Entry) -> None:
            if entry.outcome in (Outcome.UNKNOWN, Outcome.NEVER_SENT) and tries > 1:
                again = threading.Thread(
                    target=self._send_reply, args=(reply, delivery, running, tries - 1), daemon=True
                )  # not here: it may wait, and this is the I/O thread
                again.start()
                return
            if entry.outcome is not Outcome.CONFIRMED:
                logger.info("a reply to %r was not delivered: %s", reply.routing_key, entry.outcome)
            running.done(delivery)
            running.answering(-1)

        try:
            self._publisher.send_envelope(reply, settled)
        except BusError as error:
            logger.warning("a reply to %r was not sent: %s", reply.routing_key, error)
            running.done(delivery)
            running.answering(-1)


class _Options(NamedTuple):
    prefetch: int
    workers: int
    ordering: str
    key: Callable[[Delivery], Hashable]
    consumer_timeout_s: float


class _Running:
    """One queue being consumed: a subscription, its worker threads and what they are at."""

    def __init__(self, owner: MessageConsumer, queue: str, options: _Options) -> None:
        self._owner = owner
        self._queue = queue
        self._options = options
        shared = options.ordering == "none"
        lanes = 1 if shared or options.ordering == "queue" else options.workers
        self._lanes: list[queues.SimpleQueue[Delivery | None]] = [queues.SimpleQueue() for _ in range(lanes)]
        self._stopping = False
        self.subscription: Subscription = None  # type: ignore[assignment]  # set by start()
        self._at_work: dict[int, tuple[float, Delivery, int]] = {}
        self._answering = 0
        self._answered = threading.Condition()
        self._handled: OrderedDict[str, None] = OrderedDict()
        workers = 1 if options.ordering == "queue" else options.workers
        self._threads = [
            threading.Thread(
                target=self._work, args=(self._lanes[n % lanes],), name=f"busctl-worker-{queue}-{n}", daemon=True
            )
            for n in range(workers)
        ]

    def start(self, broker: MessageBroker) -> None:
        put = self._lanes[0].put if len(self._lanes) == 1 else self._put_by_key
        self.subscription = broker.subscribe(self._queue, put, prefetch=self._options.prefetch, on_tick=self._watch)
        for thread in self._threads:
            thread.start()

    def _put_by_key(self, delivery: Delivery) -> None:
        key = self._options.key(delivery)
        self._lanes[hash(key) % len(self._lanes)].put(delivery)

    def _work(self, lane: queues.SimpleQueue[Delivery | None]) -> None:
        subscription, me = self.subscription, threading.get_ident()
        while (delivery := lane.get()) is not None:
            if delivery.epoch != subscription.epoch:
                continue  # its channel is gone, so it is back in the queue and will come again
            if self._stopping:
                subscription.leave(delivery)
            elif delivery.redelivered and delivery.properties.message_id in self._handled:
                logger.info("message %r was handled before; only its ack was lost", delivery.properties.message_id)
                subscription.ack(delivery)
            else:
                self._at_work[me] = (time.monotonic(), delivery, 0)
                self._owner._handle(delivery, self)
                self._at_work.pop(me, None)

    def done(self, delivery: Delivery) -> None:
        """Ack a handled message and remember it, should the ack get lost with the link."""
        if (message_id := delivery.properties.message_id) is not None:
            self._handled[message_id] = None
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
        """Warn of handlers that near the broker's consumer timeout, which would close the channel."""
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
        self._stopping = True
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
