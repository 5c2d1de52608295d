"""Publishers: each publish is confirmed by the broker and refused loudly when no queue takes it."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from busctl_lib.amqp.confirms import Entry, PublishChannel
from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import JSON, Compression, Keyring, encode_body, encode_json, require_compression
from busctl_lib.delays import Delays
from busctl_lib.envelope import Envelope, Outcome, Properties
from busctl_lib.errors import CodecError, InvalidMessage, NeverSent, OutcomeUnknown, PublishRefused, Unroutable
from busctl_lib.publishers.outcomes import (
    Batch,
    Publishing,
    PublishReport,
    Receipt,
    Unconfirmed,
    failure_of,
    receipt_of,
    unconfirmed_of,
)
from busctl_lib.schemas import SCHEMAS, OrderMessage, validate
from busctl_lib.tracing import Tracer, inject

REPUBLISHED_HEADER = "busctl-republished"
"""Of a message that was sent again because its first outcome was not known."""
_AS_SET: Any = object()
"""As the publisher was set."""


class MessagePublisher:
    """Publishes to queues and exchanges of a broker.

    Args:
        broker: where to. All publishers of one broker share a channel and its window.
        schemas: action -> TypedDict; a message whose `action` is among them is checked before it is sent.
        compress: "zstd" or "gzip": bodies of 1 KiB and more, where 10 % go away by it.
        keys: encrypt all bodies with the current key of these.
        moves: what it sends came through a frame like the link's, and may fill one again.

    Raises:
        ConfigError: no such compression.

    Thread: any number of threads may publish at once.
    """

    def __init__(
        self,
        broker: MessageBroker,
        *,
        schemas: Mapping[str, type] | None = None,
        compress: Compression | None = None,
        keys: Keyring | None = None,
        moves: bool = False,
    ) -> None:
        require_compression(compress)
        self._broker = broker
        self._schemas = schemas or {}
        self._compress = compress
        self._keys = keys
        self._moves = moves
        self._delays: Delays | None = None
        self._ids = itertools.count(1)
        self._id_prefix = f"{secrets.token_hex(10)}-"

    def publish(
        self,
        queue: str | None,
        message: Any,
        *,
        exchange: str = "",
        routing_key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        mandatory: bool = True,
        timeout: float = 30.0,
        on_unknown: Literal["raise", "retry"] = "raise",
        delay: float = 0.0,
        fixed_delay: bool = False,
        **properties: Any,
    ) -> Receipt:
        """Publish one JSON message and wait until the broker has it.

        Args:
            queue: the queue, through the default exchange; None with `exchange`.
            message: anything JSON can carry.
            exchange, routing_key: publish there instead.
            headers: the AMQP headers.
            mandatory: fail with Unroutable when no queue takes it, instead of losing it silently.
            timeout: seconds for all of it, a reconnect included; what a delay must declare first has its own time.
            on_unknown: "retry" sends a message of unknown outcome again until the deadline, with the same message id
                and the header `busctl-republished`: for consumers that tolerate or recognise a duplicate.
            delay: seconds until it arrives: rounded up to 0.1 s, at most 310 days; see `delays`. Confirmed is then that
                the delay has it; if its destination is gone by then, it lands in `busctl.parking`.
            fixed_delay: this delay is used over and over: give it a queue of its own instead of the ladder.
            properties: AMQP properties by name, for example `priority=5`, `correlation_id="7"`, `expiration=60000`; and
                `compress` and `keys`, for this message in place of the publisher's.

        Returns:
            The receipt of a confirmed publish.

        Raises:
            Unroutable, Nacked, PublishRefused, NeverSent, OutcomeUnknown: by outcome.
            InvalidMessage: against its schema.
        """
        envelope = self.envelope(
            queue, message, exchange=exchange, routing_key=routing_key, headers=headers, **properties
        )
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                if not delay:
                    return self.publish_envelope(envelope, mandatory=mandatory, timeout=left)
                return self.publish_delayed(envelope, delay, fixed=fixed_delay, timeout=left)
            except OutcomeUnknown:
                if on_unknown == "raise" or time.monotonic() >= deadline:
                    raise
                envelope.properties.headers = {**envelope.headers, REPUBLISHED_HEADER: 1}

    def publish_delayed(
        self, envelope: Envelope, delay: float, *, fixed: bool = False, timeout: float = 30.0
    ) -> Receipt:
        """Publish an envelope so that it arrives after `delay` seconds, 0 at once; wait until the broker has it.

        Raises as `publish` and, for what cannot be declared, BrokerRefused.
        """
        try:
            return self.publish_envelope(self.put_off(envelope, delay, fixed=fixed), timeout=timeout)
        except (Unroutable, PublishRefused):
            if not delay:
                raise
            self._delays = None  # somebody may have deleted a part of the ladder: it is declared again
        return self.publish_envelope(self.put_off(envelope, delay, fixed=fixed), timeout=timeout)

    def put_off(self, envelope: Envelope, delay: float, *, fixed: bool = False) -> Envelope:
        """The envelope to publish now so that this one arrives after `delay` seconds. Args and raises as `delays`."""
        if self._delays is None:
            self._delays = Delays(self._broker)
        return self._delays.delayed(envelope, delay, fixed=fixed)

    def publish_envelope(self, envelope: Envelope, *, mandatory: bool = True, timeout: float = 30.0) -> Receipt:
        """Publish an envelope exactly as it is and wait until the broker has it. Raises as `publish`."""
        started = time.monotonic()
        settled = threading.Lock()
        settled.acquire()
        entry = self._hand_over(envelope, mandatory, started + timeout, lambda _entry: settled.release())
        if not settled.acquire(timeout=max(0.0, started + timeout - time.monotonic()) + 1.0):
            self._channel.abandon(entry)
            settled.acquire(timeout=5.0)
            entry.outcome = entry.outcome or Outcome.UNKNOWN
        return receipt_of(entry, started)

    def publish_nowait(
        self,
        queue: str | None,
        message: Any,
        *,
        exchange: str = "",
        routing_key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        mandatory: bool = True,
        timeout: float = 30.0,
        delay: float = 0.0,
        fixed_delay: bool = False,
        **properties: Any,
    ) -> Publishing:
        """Hand one JSON message over and return a handle; waits only while the window is full. Args as of `publish`.

        Raises:
            NeverSent: the window was full until the deadline. PublishRefused: AMQP cannot carry it.
        """
        envelope = self.envelope(
            queue, message, exchange=exchange, routing_key=routing_key, headers=headers, **properties
        )
        if delay:
            envelope = self.put_off(envelope, delay, fixed=fixed_delay)
        handle = Publishing()
        self._hand_over(envelope, mandatory, time.monotonic() + timeout, handle.settle)
        return handle

    def send_envelope(
        self, envelope: Envelope, on_settled: Callable[[Entry], None], *, mandatory: bool = True, timeout: float = 30.0
    ) -> None:
        """Hand an envelope over exactly as it is and return; waits only while the window is full.

        Args:
            envelope: sent as it is.
            on_settled: called once with the entry, whose `outcome` is set. Thread: the I/O thread; it must not block.

        Raises:
            NeverSent: the window was full until the deadline. PublishRefused: AMQP cannot carry it.
        """
        self._hand_over(envelope, mandatory, time.monotonic() + timeout, on_settled)

    def publish_many(self, messages: Iterable[tuple[str, Any]], *, timeout: float = 30.0) -> PublishReport:
        """Publish many JSON messages, pipelined, and wait for all outcomes.

        Args:
            messages: pairs of queue and message; taken one by one as the window allows.
            timeout: seconds each message has from when it is taken.

        Returns:
            Counts, and in order every entry that was not CONFIRMED. Raises nothing for single messages.
        """
        started = time.monotonic()
        batch = Batch()
        index = -1
        for index, (queue, message) in enumerate(messages):
            try:
                envelope = self.envelope(queue, message)
                self._hand_over(envelope, True, time.monotonic() + timeout, batch.settled, index)
            except NeverSent as error:
                batch.not_sent(unconfirmed_of(index, envelope, Outcome.NEVER_SENT, str(error)))
            except (PublishRefused, InvalidMessage, CodecError) as error:
                batch.not_sent(Unconfirmed(index, queue, None, Outcome.REFUSED, str(error)))
        batch.wait(index + 1, timeout + 5)
        return batch.report(time.monotonic() - started)

    def envelope(
        self,
        queue: str | None,
        message: Any,
        *,
        exchange: str = "",
        routing_key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        compress: str | None = _AS_SET,
        keys: Keyring | None = _AS_SET,
        **properties: Any,
    ) -> Envelope:
        """What `publish` would send: JSON body, persistent, with a message id, the time and the trace under way."""
        action = message.get("action") if isinstance(message, dict) else None
        schema = self._schemas.get(action) if isinstance(action, str) else None
        if schema is not None:
            validate(message, schema)
        if isinstance(properties.get("expiration"), int):
            properties["expiration"] = str(properties["expiration"])
        for name, value in (("content_type", JSON), ("delivery_mode", 2)):
            properties.setdefault(name, value)
        if properties.get("message_id") is None:
            properties["message_id"] = f"{self._id_prefix}{next(self._ids):x}"
        if properties.get("timestamp") is None:
            properties["timestamp"] = int(time.time())
        try:
            built = Properties(headers=inject(dict(headers) if headers else None), **properties)
        except TypeError as error:
            raise PublishRefused(
                f"not an AMQP property: {error}", hint=f"known: {', '.join(Properties.__struct_fields__)}"
            ) from None
        key = routing_key if routing_key is not None else queue or ""
        made = Envelope(exchange=exchange, routing_key=key, properties=built, body=encode_json(message))
        compress = self._compress if compress is _AS_SET else compress
        keys = self._keys if keys is _AS_SET else keys
        if compress is not None or keys is not None:
            encode_body(made, compress=compress, keys=keys)
        return made

    @property
    def _channel(self) -> PublishChannel:
        return self._broker.links.publish_channel

    def _hand_over(
        self,
        envelope: Envelope,
        mandatory: bool,
        deadline: float,
        on_settled: Callable[[Entry], None],
        index: int = 0,
        *,
        traced: bool = False,
    ) -> Entry:
        broker = self._broker
        if broker.read_only:
            broker.guard_change("publishing")
        if broker.tracer is not None and not traced:
            return self._hand_over_traced(broker.tracer, envelope, mandatory, deadline, on_settled, index)
        channel = broker.links.publish_channel
        channel.link.open(max(0.0, deadline - time.monotonic()))
        frames = channel.encode(envelope, mandatory, moves=self._moves)
        entry = Entry(envelope, frames, mandatory, deadline, on_settled, index)
        if not channel.window.acquire(entry.size, deadline):
            entry.outcome, entry.reason = Outcome.NEVER_SENT, f"the window stayed full, {channel.link.says}"
            raise failure_of(entry)
        channel.publish(entry)
        return entry

    def _hand_over_traced(
        self,
        tracer: Tracer,
        envelope: Envelope,
        mandatory: bool,
        deadline: float,
        on_settled: Callable[[Entry], None],
        index: int,
    ) -> Entry:
        """As `_hand_over`, within a span that ends with the outcome."""
        span = tracer.sending(envelope)

        def settled(entry: Entry) -> None:
            outcome = entry.outcome
            span.end(None if outcome is Outcome.CONFIRMED or outcome is None else outcome.value)
            on_settled(entry)

        try:
            return self._hand_over(envelope, mandatory, deadline, settled, index, traced=True)
        except BaseException as error:
            span.end(type(error).__name__)
            raise


class OrderPublisher(MessagePublisher):
    """Publishes orders to the execution service, checked against their schema.

    Args:
        queue: where orders go.
    """

    def __init__(self, broker: MessageBroker, *, queue: str = "tes_requests") -> None:
        super().__init__(broker, schemas=SCHEMAS)
        self.queue = queue

    def publish_order(self, order: OrderMessage | Mapping[str, Any], **options: Any) -> Receipt:
        """Publish one order; `action`, `order_type`, `timestamp` are filled in where absent, nothing else is touched.

        Raises:
            InvalidMessage: names the field, what was expected and what was found. Otherwise as `publish`.
        """
        message = {"action": "place_order", "order_type": "limit", "timestamp": time.time(), **order}
        return self.publish(self.queue, message, **options)
