"""MessageConsumer: handlers by action, on worker threads, acknowledged only when the work is done."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal

from busctl_lib.amqp.confirms import Entry
from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import LIMIT_BYTES, Keyring, read_json
from busctl_lib.consumers.failures import Failures, Fate, Reject
from busctl_lib.consumers.running import Options, Running
from busctl_lib.dedup import Claim, SeenStore
from busctl_lib.envelope import Delivery, Envelope, Outcome, Properties
from busctl_lib.errors import BusError, CodecError, ConfigError, InvalidMessage
from busctl_lib.publishers import MessagePublisher
from busctl_lib.retry import RetryPolicy, said, stage_of
from busctl_lib.rpc import error_envelope, is_expired, reply_envelope
from busctl_lib.schemas import validate
from busctl_lib.tracing import TRACEPARENT, continued

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Properties], Any]
"""Called with the message and its properties; what it returns, if anything, is the reply."""

_REPLY_TRIES = 3
_ASK_AGAIN_S = 0.2


class MessageConsumer:
    """Consumes queues and calls the handler registered for each message's `action`.

    A message is acked after its handler returned and its reply, if one is due, was confirmed, or cannot be delivered.
    A handler that raises sends the caller an error reply where one is expected. Otherwise the message is tried again by
    the `retry` policy, after a delay, and in the end, or at once without a policy, goes to the dead-letter queue
    `QUEUE.dead`, its error in the headers. So does, without another attempt, a message that is not a JSON object,
    cannot be decoded, has no handler, is against its schema, or whose handler raised Reject. Where there is no such
    queue, the message is rejected and the queue's own dead-letter exchange has it.

    A message leaves its queue only when the broker has its copy, so a crash in between doubles it and never loses it:
    handlers must stand a second call, unless `dedup` is given. With it a handler that has finished is not called again
    for the same message, by none of the processes that share the store. What is put back from the dead-letter queue, by
    `busctl replay` or by hand, is handled anew, once. A message may be in that queue twice, when the process was killed
    between putting it there and noting it; of the two one is handled when they are put back.

    Args:
        broker: where from.
        prefetch: how many unsettled messages a queue hands out at once.
        workers: handler threads a queue.
        ordering: "none": any worker takes any message; "queue": one after the other, in the queue's order; "key": in
            order among messages of one key, different keys side by side.
        key: what "key" goes by; the routing key unless given.
        schemas: action -> TypedDict; messages are checked before their handler sees them.
        retry: when and how often a message whose handler raised is tried again; by the ladder of `delays`.
        dedup: remembers what was handled.
        dedup_key: what makes two messages the same; the message id unless given. None from it: not remembered.
        keys: to decrypt bodies with.
        max_body_bytes: what a compressed body may expand to.
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
        retry: RetryPolicy | None = None,
        dedup: SeenStore | None = None,
        dedup_key: Callable[[Delivery], str | None] = lambda delivery: delivery.properties.message_id,
        keys: Keyring | None = None,
        max_body_bytes: int = LIMIT_BYTES,
        consumer_timeout_s: float = 1800.0,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, found {workers}")
        if ordering not in ("none", "queue", "key"):
            raise ConfigError(f"ordering must be none, queue or key, found {ordering!r}")
        self._broker = broker
        self._options = Options(max(prefetch, workers), workers, ordering, key, consumer_timeout_s)
        self._schemas = schemas or {}
        self._handlers: dict[str, Handler] = {}
        self._default: Handler | None = None
        self._publisher = MessagePublisher(broker)
        self._failures = Failures(self._publisher, retry)
        self._seen = dedup
        self._seen_key = dedup_key
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        broker.links.before_close(self)
        self._running: list[Running] = []
        self._stop = threading.Event()
        self._finishing = threading.Lock()
        self._finisher: int | None = None

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
        running = Running(queue, self._options, self._take)
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
        deadline = time.monotonic() + timeout  # of all queues together
        if self._finisher == threading.get_ident():  # another signal struck while its handler does just this
            return
        if not self._finishing.acquire(timeout=timeout):  # who comes second waits: it may close the broker next
            return
        try:
            self._finisher = threading.get_ident()
            while self._running:
                self._running[-1].stop(max(0.5, deadline - time.monotonic()))
                self._running.pop()
        finally:
            self._finisher = None
            self._finishing.release()

    # -- one message

    def _take(self, delivery: Delivery, running: Running) -> None:
        """Handle a message within its trace, if it has one."""
        tracer, headers = self._broker.tracer, delivery.properties.headers
        if tracer is not None:
            with tracer.processing(delivery) as span:
                error = self._handle_once(delivery, running)
                if error is not None:
                    span.failed(error)
        elif headers is not None and TRACEPARENT in headers:
            with continued(headers):
                self._handle_once(delivery, running)
        elif self._seen is None:
            self._handle(delivery, running, None)
        else:
            self._handle_once(delivery, running)

    def _handle_once(self, delivery: Delivery, running: Running) -> BaseException | None:
        """Handle a message unless that was done before; returns what its handler raised."""
        try:
            key = self._seen_key(delivery) if self._seen is not None else None
        except Exception as error:  # noqa: BLE001 - the user's function; what it fails on is a message that fails
            self._failed(delivery, running, error, None)
            return error
        if self._seen is None or key is None:
            return self._handle(delivery, running, None)
        key = f"{delivery.queue}\0{key}"  # copies of one message in several queues are several messages
        claim = self._claim(self._seen, key, delivery, running)
        if claim is Claim.OURS:
            return self._handle(delivery, running, key)
        if claim is Claim.SEEN:
            logger.info("message %r of %r was handled before", delivery.properties.message_id, delivery.queue)
            running.subscription.ack(delivery)
        return None

    def _claim(self, seen: SeenStore, key: str, delivery: Delivery, running: Running) -> Claim | None:
        """Claim a message, waiting for who is at it; None when it goes back to its queue instead."""
        stage = stage_of(delivery.properties.headers)
        while True:
            try:
                claim = seen.claim(key, stage)
            except BusError as error:
                logger.warning("%s; message %r waits", error, delivery.properties.message_id)
                claim = Claim.BUSY
            if claim is not Claim.BUSY:
                return claim
            if not running.holds(delivery, _ASK_AGAIN_S):
                return None

    def _handle(self, delivery: Delivery, running: Running, key: str | None) -> BaseException | None:
        properties = delivery.properties
        if properties.reply_to and is_expired(properties):
            logger.info("a request of %r came too late to be answered", delivery.queue)
            self._settled(key)
            running.done(delivery)
            return None
        try:
            message = self._message(delivery)
            handler = self._handler(message)
            result = handler(message, properties)
            reply = reply_envelope(properties, result) if properties.reply_to and result is not None else None
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises, sys.exit() too, is the message's fate
            self._failed(delivery, running, error, key)
            return error
        self._settled(key)
        if reply is None:
            running.done(delivery)
        else:
            self._answer(reply, delivery, running)
        return None

    def _settled(self, key: str | None, stage: int | None = None, *, kept: bool = False) -> None:
        """Note what became of a claimed message."""
        if key is None or self._seen is None:
            return
        try:
            if kept:
                self._seen.release(key)
            elif stage is not None:
                self._seen.moved(key, stage)
            else:
                self._seen.done(key)
        except BusError as error:
            logger.warning("%s; a message may be handled twice", error)

    def _message(self, delivery: Delivery) -> dict[str, Any]:
        message = read_json(delivery, keys=self._keys, limit=self._max_body_bytes)
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

    def _failed(self, delivery: Delivery, running: Running, error: BaseException, key: str | None) -> None:
        known = isinstance(error, (Reject, InvalidMessage, CodecError))
        logger.log(
            logging.INFO if known else logging.WARNING,
            "a message of %r failed: %s",
            delivery.queue,
            said(error),
            exc_info=not known,
        )
        if delivery.properties.reply_to:
            self._settled(key, kept=True)  # who sends the request again wants it done
            reply = error_envelope(delivery.properties, type(error).__name__, said(error))
            self._answer(reply, delivery, running)
            return
        fate = self._failures.settle(delivery, error, running, final=known)
        copied = fate in (Fate.RETRIED, Fate.BURIED)  # what is rejected comes back, if ever, just as it is
        self._settled(key, stage_of(delivery.properties.headers) + 1, kept=not copied)
        if fate is Fate.REJECTED:
            running.subscription.dead_letter(delivery)
        elif fate is not Fate.KEPT:
            running.subscription.ack(delivery)  # not `done`: its retry has the same id

    def _answer(self, reply: Envelope, delivery: Delivery, running: Running) -> None:
        """Send a reply; the request is acked once the reply is the broker's, or its requester is gone."""
        running.answering(+1)
        self._send_reply(reply, delivery, running, _REPLY_TRIES)

    def _send_reply(self, reply: Envelope, delivery: Delivery, running: Running, tries: int) -> None:
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
