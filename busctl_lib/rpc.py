"""Request and reply: any number of calls in flight over one reply consumer, four ways to fail told apart.

The reply conventions, both ways: the reply carries the request's correlation id; a failed request is answered with the
header `busctl-error` (the error's type) and a body `{"error": type, "message": text}`; a request whose header
`busctl-deadline` (milliseconds since 1970) is past is not worked on, since nobody waits any more.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from busctl_lib.amqp.confirms import Entry, PublishChannel
from busctl_lib.amqp.replies import DIRECT_REPLY_TO, DirectReplies
from busctl_lib.broker import LinkEvent, MessageBroker, State
from busctl_lib.codecs import JSON, decode_json, encode_json
from busctl_lib.envelope import Delivery, Envelope, Outcome, Properties
from busctl_lib.errors import BusError, ConfigError, LinkLost, NoResponder, OutcomeUnknown, RemoteError, ReplyTimeout
from busctl_lib.publishers import failure_of

logger = logging.getLogger(__name__)

ERROR_HEADER = "busctl-error"
ERROR_TEXT_HEADER = "busctl-error-message"
DEADLINE_HEADER = "busctl-deadline"
_TEXT_LIMIT = 1000


class Reply:
    """The answer to one call."""

    def __init__(self, delivery: Delivery, round_trip_s: float) -> None:
        self.delivery = delivery
        self.round_trip_s = round_trip_s

    @property
    def message(self) -> Any:
        """The body as JSON. Raises CodecError when it is something else."""
        return decode_json(self.delivery.body)

    @property
    def error(self) -> RemoteError | None:
        """The error it carries, if the other side failed."""
        kind = self.delivery.headers.get(ERROR_HEADER)
        if kind is None:
            return None
        text = self.delivery.headers.get(ERROR_TEXT_HEADER)
        return RemoteError(
            f"the other side failed: {kind}{f': {text}' if text else ''}", type=str(kind), text=text, reply=self
        )


class _Call:
    """One request in flight."""

    __slots__ = ("confirmed", "done", "error", "reply", "started")

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.done = threading.Lock()
        self.done.acquire()
        self.reply: Reply | None = None
        self.error: BusError | None = None
        self.confirmed = False


class RPCConsumer:
    """Calls methods of other services. Thread: any number of threads may call at once.

    Args:
        broker: where to.
        reply_mode: "direct": RabbitMQ's direct reply-to; "queue": an exclusive queue of this object's own; "auto":
            direct, or a queue where the broker has no direct reply-to.
    """

    def __init__(self, broker: MessageBroker, *, reply_mode: Literal["auto", "direct", "queue"] = "auto") -> None:
        if reply_mode not in ("auto", "direct", "queue"):
            raise ConfigError(f"reply_mode must be auto, direct or queue, found {reply_mode!r}")
        self._broker = broker
        self._mode = reply_mode
        self._calls: dict[str, _Call] = {}
        self._lock = threading.Lock()
        self._replies: tuple[PublishChannel, str] | None = None
        """Where requests go out, and the address their replies come in at."""

    def call(self, queue_name: str, message: Any, timeout: float = 5.0, **options: Any) -> Any:
        """Send a request and wait for its reply.

        Args:
            queue_name: where the service takes requests.
            message: anything JSON can carry.
            timeout: seconds until the reply must be here; travels along, so that late requests are not worked on.
            options: as of `request`.

        Returns:
            The reply's JSON value.

        Raises:
            NoResponder: no such queue (at once), or no consumer on it at the deadline. ReplyTimeout: no reply in time.
            RemoteError: the reply is an error. OutcomeUnknown: the link died meanwhile.
            CodecError: the reply is not JSON.
        """
        reply = self.request(queue_name, message, timeout, **options)
        if reply.error is not None:
            raise reply.error
        return reply.message

    def request(
        self,
        queue_name: str,
        message: Any,
        timeout: float = 5.0,
        *,
        exchange: str = "",
        headers: Mapping[str, Any] | None = None,
    ) -> Reply:
        """As `call`, but returns the whole Reply, also when it is an error."""
        self._broker.guard_change("calling a method")
        channel, reply_to = self._open(timeout)
        correlation_id = uuid.uuid4().hex
        call = _Call()
        deadline = call.started + timeout
        envelope = self._envelope(queue_name, exchange, message, correlation_id, reply_to, timeout, headers)
        entry = Entry(
            envelope, channel.encode(envelope, True), True, deadline, lambda entry: self._settled(entry, call)
        )
        self._calls[correlation_id] = call
        try:
            if not channel.window.acquire(entry.size, deadline):
                entry.outcome, entry.reason = Outcome.NEVER_SENT, f"the link is {channel.link.state.value}"
                raise failure_of(entry)
            channel.publish(entry)
            if not call.done.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise self._timed_out(entry, channel, queue_name, timeout)
        finally:
            self._calls.pop(correlation_id, None)
        if call.error is not None:
            raise call.error
        assert call.reply is not None
        return call.reply

    def _open(self, timeout: float) -> tuple[PublishChannel, str]:
        link = self._broker.links.publish
        link.open()
        with self._lock:
            if self._replies is None:
                self._replies = self._direct(timeout) if self._mode != "queue" else self._queue()
            return self._replies

    def _direct(self, timeout: float) -> tuple[PublishChannel, str]:
        replies = DirectReplies(self._broker.links.publish, on_reply=self._on_reply, on_lost=self._on_lost)
        if self._mode == "auto" and replies.is_refused(timeout):
            logger.info("no direct reply-to here (%s); replies come by a queue", replies.refused)
            self._broker.links.publish.submit(lambda: self._broker.links.publish.remove(replies))
            return self._queue()
        return replies, DIRECT_REPLY_TO

    def _queue(self) -> tuple[PublishChannel, str]:
        queue = self._broker.declare_queue(f"busctl.reply.{uuid.uuid4().hex}", exclusive=True).queue
        self._broker.subscribe(queue, self._on_reply, auto_ack=True)
        self._broker.add_listener(self._on_link_event)
        return self._broker.links.publish_channel, queue

    def _on_link_event(self, event: LinkEvent) -> None:
        """The reply queue went with the consume link; it is declared again, but replies sent meanwhile are gone."""
        if event.link == "consume" and event.old is State.OPEN and event.new is State.RECOVERING:
            self._on_lost(LinkLost(event.reason or "the connection was lost"))

    def _envelope(
        self,
        queue: str,
        exchange: str,
        message: Any,
        correlation_id: str,
        reply_to: str,
        timeout: float,
        headers: Mapping[str, Any] | None,
    ) -> Envelope:
        milliseconds = max(1, int(timeout * 1000))
        now = time.time()
        properties = Properties(
            content_type=JSON,
            delivery_mode=1,
            correlation_id=correlation_id,
            message_id=correlation_id,
            reply_to=reply_to,
            expiration=str(milliseconds),
            timestamp=int(now),
            headers={DEADLINE_HEADER: int(now * 1000) + milliseconds, **(headers or {})},
        )
        return Envelope(exchange=exchange, routing_key=queue, properties=properties, body=encode_json(message))

    # -- the I/O thread

    def _settled(self, entry: Entry, call: _Call) -> None:
        if entry.outcome is Outcome.CONFIRMED:
            call.confirmed = True
        elif entry.outcome is Outcome.RETURNED:
            where = entry.envelope.exchange or "the default exchange"
            queue = entry.envelope.routing_key
            sentence = (
                f"nobody answers on {queue!r}: no such queue"
                if not entry.envelope.exchange
                else f"{where!r} routes {queue!r} nowhere"
            )
            self._finish(
                call,
                None,
                NoResponder(sentence, queue=queue, hint="Is the service up? `busctl queues` lists what there is."),
            )
        else:
            self._finish(call, None, failure_of(entry))

    def _on_reply(self, delivery: Delivery) -> None:
        call = self._calls.get(delivery.properties.correlation_id or "")
        if call is None:
            self._broker.links.publish.counts["late_replies"] += 1
            logger.info("a reply came too late, correlation id %r", delivery.properties.correlation_id)
            return
        self._finish(call, Reply(delivery, time.monotonic() - call.started), None)

    def _on_lost(self, reason: BusError) -> None:
        """The reply address died with its channel: what was sent cannot be answered any more."""
        for call in list(self._calls.values()):
            if call.confirmed:
                self._finish(
                    call, None, OutcomeUnknown(f"the link was lost before the reply: {reason}", outcome=Outcome.UNKNOWN)
                )

    @staticmethod
    def _finish(call: _Call, reply: Reply | None, error: BusError | None) -> None:
        if call.reply is None and call.error is None:
            call.reply, call.error = reply, error
            call.done.release()

    # -- the caller's thread

    def _timed_out(self, entry: Entry, channel: PublishChannel, queue: str, timeout: float) -> BusError:
        if entry.outcome is None:
            channel.abandon(entry, "the call's deadline passed")
        facts: dict[str, Any] = {"queue": queue, "timeout_s": timeout}
        try:
            consumers = self._broker.declare_queue(queue, passive=True, timeout=2.0).consumer_count
        except BusError:
            consumers = None
        if consumers == 0:
            return NoResponder(
                f"nobody answers on {queue!r}: the queue has no consumer (waited {timeout:g} s)",
                hint="Start the service.",
                **facts,
            )
        return ReplyTimeout(
            f"no reply from {queue!r} within {timeout:g} s",
            hint="Allow more time with a longer timeout, or look at the service.",
            **facts,
        )


def is_expired(request: Properties) -> bool:
    """Whether the caller has stopped waiting for this request."""
    deadline = (request.headers or {}).get(DEADLINE_HEADER)
    return isinstance(deadline, (int, float)) and not isinstance(deadline, bool) and time.time() * 1000 > deadline


def reply_envelope(request: Properties, result: Any) -> Envelope:
    """The reply to a request; its `reply_to` must be set."""
    return _answer(request, encode_json(result), None)


def error_envelope(request: Properties, kind: str, text: str) -> Envelope:
    """The reply that says the request failed."""
    headers = {ERROR_HEADER: kind[:_TEXT_LIMIT], ERROR_TEXT_HEADER: text[:_TEXT_LIMIT]}
    return _answer(request, encode_json({"error": kind, "message": text}), headers)


def _answer(request: Properties, body: bytes, headers: dict[str, Any] | None) -> Envelope:
    assert request.reply_to
    properties = Properties(
        content_type=JSON,
        delivery_mode=1 if request.reply_to.startswith(DIRECT_REPLY_TO) else 2,
        correlation_id=request.correlation_id,
        message_id=uuid.uuid4().hex,
        timestamp=int(time.time()),
        headers=headers,
    )
    return Envelope(exchange="", routing_key=request.reply_to, properties=properties, body=body)
