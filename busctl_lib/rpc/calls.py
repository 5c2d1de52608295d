"""Calls: any number in flight over one reply address, and each way to fail told apart."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from busctl_lib.amqp.confirms import Entry
from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import JSON, encode_json, read_json
from busctl_lib.envelope import Delivery, Envelope, Outcome, Properties
from busctl_lib.errors import (
    BusError,
    ConfigError,
    NeverSent,
    NoResponder,
    NotFound,
    OutcomeUnknown,
    QueueAway,
    RemoteError,
    ReplyTimeout,
)
from busctl_lib.publishers import failure_of
from busctl_lib.rpc.addresses import Address, Addresses
from busctl_lib.rpc.answers import DEADLINE_HEADER, ERROR_HEADER, ERROR_TEXT_HEADER
from busctl_lib.tracing import inject

logger = logging.getLogger(__name__)

TIMEOUT_MAX_S = (2**32 - 1) // 1000
"""The longest deadline a request can carry: RabbitMQ takes an expiration of at most 2**32 - 1 ms (49 days)."""
_REMEMBERED = 10_000
_LOOK_S = 2.0
_SETTLE_S = 1.0
"""How long the I/O thread may take to say whether a request was sent."""

ReplyMode = Literal["auto", "direct", "queue", "shared"]
REPLY_MODES: tuple[ReplyMode, ...] = ("auto", "direct", "queue", "shared")


class Reply:
    """The answer to one call."""

    def __init__(self, delivery: Delivery, round_trip_s: float) -> None:
        self.delivery = delivery
        self.round_trip_s = round_trip_s

    @property
    def message(self) -> Any:
        """The body as JSON. Raises CodecError when it is something else."""
        return read_json(self.delivery)

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


class Strays:
    """Replies that belong to no call in flight, counted by what they are."""

    def __init__(self) -> None:
        self.late = 0
        """To a call that had been given up."""
        self.duplicate = 0
        """To a call that had its reply already."""
        self.foreign = 0
        """With a correlation id that was never ours."""
        self.uncorrelated = 0
        """Without any correlation id: the service does not copy the request's."""

    def copy(self) -> Strays:
        """Give the counts as they are now."""
        copy = Strays()
        copy.__dict__.update(self.__dict__)
        return copy


class _Call:
    """One request in flight."""

    __slots__ = ("confirmed", "done", "error", "reply", "started")

    def __init__(self, started: float) -> None:
        self.started = started
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
            direct, or a queue where the broker has no direct reply-to; "shared": a queue that others read as well.
        reply_queue: the shared queue's name. It must be a classic queue: replies of others that come here meanwhile
            are given back, which a quorum queue counts as failures.
    """

    def __init__(
        self, broker: MessageBroker, *, reply_mode: ReplyMode = "auto", reply_queue: str | None = None
    ) -> None:
        if reply_mode not in REPLY_MODES:
            raise ConfigError(f"reply_mode must be auto, direct, queue or shared, found {reply_mode!r}")
        if (reply_mode == "shared") != (reply_queue is not None):
            raise ConfigError('reply_queue names the queue of reply_mode "shared", and goes with it only')
        self._broker = broker
        self._calls: dict[str, _Call] = {}
        self._ended: OrderedDict[str, bool] = OrderedDict()
        self._addresses = Addresses(
            broker, reply_mode, reply_queue, is_mine=self._is_mine, on_reply=self._on_reply, on_lost=self._on_lost
        )
        self.strays = Strays()

    def call(self, queue_name: str, message: Any, timeout: float = 5.0, **options: Any) -> Any:
        """Send a request and wait for its reply.

        Args:
            queue_name: where the service takes requests; with an exchange, the routing key.
            message: anything JSON can carry; bytes are the body as they are.
            timeout: seconds until the reply must be here; travels along, so that late requests are not worked on.
            options: as of `request`.

        Returns:
            The reply's JSON value.

        Raises:
            NoResponder: no such queue (at once), or no consumer on it at the deadline. ReplyTimeout: no reply in time.
            RemoteError: the reply is an error. OutcomeUnknown: the link died meanwhile.
            CodecError: the reply is not JSON. ConfigError: a timeout that no message can carry.
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
        content_type: str | None = None,
        retries: int = 0,
    ) -> Reply:
        """As `call`, but returns the whole Reply, also when it is an error.

        Args:
            queue_name, message, timeout: as of `call`.
            exchange: where to send it; the default exchange leads to the queue of the key's name.
            headers: beside our own.
            content_type: what the body is; JSON unless `message` is bytes.
            retries: how often a request that did not leave this process within its timeout is tried again.
        """
        self._broker.guard_change("calling a method")
        _check_timeout(timeout)
        for left in range(retries, -1, -1):
            try:
                return self._request(queue_name, message, timeout, exchange, headers, content_type)
            except NeverSent:
                if not left:
                    raise
                logger.info("a request to %r was not sent, trying again", queue_name)
        raise AssertionError

    def _request(
        self,
        queue: str,
        message: Any,
        timeout: float,
        exchange: str,
        headers: Mapping[str, Any] | None,
        content_type: str | None,
    ) -> Reply:
        started = time.monotonic()
        correlation_id = uuid.uuid4().hex
        tracer = self._broker.tracer
        with self._addresses.borrowed(timeout) as address:
            envelope = _envelope(queue, exchange, message, correlation_id, address.name, timeout, headers)
            if content_type is not None:
                envelope.properties.content_type = content_type
            if tracer is None:
                return self._exchange(envelope, address, started, timeout)
            with tracer.calling(envelope) as span:
                reply = self._exchange(envelope, address, started, timeout)
                if reply.error is not None:
                    span.failed(reply.error)
                return reply

    def _exchange(self, envelope: Envelope, address: Address, started: float, timeout: float) -> Reply:
        """Send a request and wait for its reply. Raises as `request`."""
        call = _Call(started)
        deadline = started + timeout
        strays = self.strays.copy()
        correlation_id = envelope.properties.correlation_id or ""
        frames = address.channel.encode(envelope, True)
        entry = Entry(envelope, frames, True, deadline, lambda entry: self._settled(entry, call))
        self._calls[correlation_id] = call
        try:
            if not self._answered(call, entry, address, deadline):
                raise self._timed_out(entry, address, timeout, strays)
        finally:
            self._calls.pop(correlation_id, None)
            self._remember(correlation_id, answered=call.reply is not None)
        if call.error is not None:
            raise call.error
        assert call.reply is not None
        return call.reply

    def _answered(self, call: _Call, entry: Entry, address: Address, deadline: float) -> bool:
        """Send and wait; whether there is an end before the deadline."""
        channel = address.channel
        if not channel.window.acquire(entry.size, deadline):
            entry.outcome, entry.reason = Outcome.NEVER_SENT, channel.link.says
            raise failure_of(entry)
        channel.publish(entry)
        return call.done.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def _remember(self, correlation_id: str, *, answered: bool) -> None:
        self._ended[correlation_id] = answered
        while len(self._ended) > _REMEMBERED:
            try:
                self._ended.popitem(last=False)
            except KeyError:
                return

    # -- the I/O thread

    def _settled(self, entry: Entry, call: _Call) -> None:
        if entry.outcome is Outcome.CONFIRMED:
            call.confirmed = True
        elif entry.outcome is Outcome.RETURNED:
            sent = entry.envelope
            sentence = (
                f"nobody answers: exchange {sent.exchange!r} routes {sent.routing_key!r} nowhere"
                if sent.exchange
                else f"nobody answers on {sent.routing_key!r}: no such queue, or its node is down"
            )
            hint = "is the service up? `busctl queues` lists what there is"
            self._finish(call, None, NoResponder(sentence, queue=sent.routing_key, hint=hint))
        else:
            self._finish(call, None, failure_of(entry))

    def _is_mine(self, delivery: Delivery) -> bool:
        """Whether a reply answers a request of this object, in flight or ended."""
        correlation_id = delivery.properties.correlation_id or ""
        return correlation_id in self._calls or correlation_id in self._ended

    def _on_reply(self, delivery: Delivery) -> None:
        correlation_id = delivery.properties.correlation_id
        call = self._calls.get(correlation_id or "")
        if call is None:
            self._stray(correlation_id)
        elif not self._finish(call, Reply(delivery, time.monotonic() - call.started), None):
            self.strays.duplicate += 1

    def _stray(self, correlation_id: str | None) -> None:
        if correlation_id is None:
            self.strays.uncorrelated += 1
            logger.warning("a reply came without a correlation id")
        elif (answered := self._ended.get(correlation_id)) is None:
            self.strays.foreign += 1
            logger.warning("a reply came for a call that was never ours, correlation id %r", correlation_id)
        elif answered:
            self.strays.duplicate += 1
            logger.info("a second reply came, correlation id %r", correlation_id)
        else:
            self.strays.late += 1
            self._broker.links.publish.counts["late_replies"] += 1
            logger.info("a reply came too late, correlation id %r", correlation_id)

    def _on_lost(self, reason: BusError) -> None:
        """The reply address died with its channel: what was sent cannot be answered any more."""
        for call in list(self._calls.values()):
            if call.confirmed:
                self._finish(
                    call, None, OutcomeUnknown(f"the link was lost before the reply: {reason}", outcome=Outcome.UNKNOWN)
                )

    @staticmethod
    def _finish(call: _Call, reply: Reply | None, error: BusError | None) -> bool:
        """End a call; whether it was still open."""
        if call.reply is not None or call.error is not None:
            return False
        call.reply, call.error = reply, error
        call.done.release()
        return True

    # -- the caller's thread

    def _timed_out(self, entry: Entry, address: Address, timeout: float, before: Strays) -> BusError:
        """Say why there is no reply, as well as that can be known."""
        if entry.outcome is None:
            address.channel.abandon(entry)
            ended = time.monotonic() + _SETTLE_S
            while entry.outcome is None and time.monotonic() < ended:
                time.sleep(0.002)
        if entry.outcome is Outcome.NEVER_SENT:
            return failure_of(entry)
        sent = entry.envelope
        where = f"{sent.exchange}:{sent.routing_key}" if sent.exchange else sent.routing_key
        facts: dict[str, Any] = {"queue": sent.routing_key, "timeout_s": timeout}
        absent = None if sent.exchange else self._why_nobody(sent.routing_key, timeout)
        if absent is not None:
            return NoResponder(f"nobody answers on {where!r}: {absent}", hint="start the service", **facts)
        uncorrelated = self.strays.uncorrelated - before.uncorrelated
        foreign = self.strays.foreign - before.foreign
        odd, hint = "", "allow more time with a longer timeout, or look at the service"
        if uncorrelated or foreign:
            what = "without a correlation id" if uncorrelated else "for a call that was never ours"
            odd = f", but meanwhile {uncorrelated or foreign} came {what}"
            hint = "the service must copy correlation_id from the request to its reply"
        sentence = f"no reply from {where!r} within {timeout:g} s{odd}"
        return ReplyTimeout(sentence, hint=hint, uncorrelated=uncorrelated, foreign=foreign, **facts)

    def _why_nobody(self, queue: str, timeout: float) -> str | None:
        try:
            consumers = self._broker.declare_queue(queue, passive=True, timeout=_LOOK_S).consumer_count
        except NotFound:
            return f"the queue is gone (waited {timeout:g} s)"
        except QueueAway as error:
            return f"the queue is there, but {error.why}"
        except BusError:
            return None
        return f"the queue has no consumer (waited {timeout:g} s)" if consumers == 0 else None


def _check_timeout(timeout: float) -> None:
    if not (math.isfinite(timeout) and 0 < timeout <= TIMEOUT_MAX_S):
        raise ConfigError(
            f"a call's timeout is above 0 and at most {TIMEOUT_MAX_S} s (49 days), found {timeout:g}",
            hint="it travels as the message's expiration, which cannot be longer",
            timeout_s=timeout,
        )


def _envelope(
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
    as_is = isinstance(message, bytes)
    properties = Properties(
        content_type=None if as_is else JSON,
        delivery_mode=1,
        correlation_id=correlation_id,
        message_id=correlation_id,
        reply_to=reply_to,
        expiration=str(milliseconds),
        timestamp=int(now),
        headers=inject({DEADLINE_HEADER: int(now * 1000) + milliseconds, **(headers or {})}),
    )
    body = message if as_is else encode_json(message)
    return Envelope(exchange=exchange, routing_key=queue, properties=properties, body=body)
