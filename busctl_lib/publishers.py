"""Publishers: each publish is confirmed by the broker and refused loudly when no queue takes it."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Literal

import msgspec

from busctl_lib.amqp.confirms import Entry, PublishChannel
from busctl_lib.broker import MessageBroker
from busctl_lib.codecs import JSON, encode_json
from busctl_lib.envelope import Envelope, Outcome, Properties
from busctl_lib.errors import (
    CodecError,
    InvalidMessage,
    Nacked,
    NeverSent,
    OutcomeUnknown,
    PublishFailed,
    PublishRefused,
    TimedOut,
    Unroutable,
)
from busctl_lib.schemas import SCHEMAS, OrderMessage, validate

REPUBLISHED_HEADER = "busctl-republished"


class Receipt(msgspec.Struct, frozen=True):
    """A publish that was CONFIRMED."""

    message_id: str | None
    outcome: Outcome
    elapsed_s: float


class Unconfirmed(msgspec.Struct, frozen=True):
    """One entry of `publish_many` that was not CONFIRMED."""

    index: int
    """Its place in what was given, from 0."""
    routing_key: str
    message_id: str | None
    outcome: Outcome
    reason: str | None


class PublishReport(msgspec.Struct):
    """What became of a `publish_many`."""

    counts: dict[Outcome, int]
    unconfirmed: list[Unconfirmed]
    """Every entry that was not CONFIRMED, in the order given."""
    elapsed_s: float

    @property
    def confirmed(self) -> int:
        """How many the broker has."""
        return self.counts.get(Outcome.CONFIRMED, 0)


class Publishing:
    """A publish under way: wait for its receipt, or take its future."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._future: Future[Receipt] = Future()

    def _settle(self, entry: Entry) -> None:
        try:
            self._future.set_result(_receipt_of(entry, self._started))
        except PublishFailed as error:
            self._future.set_exception(error)

    def wait(self, timeout: float | None = None) -> Receipt:
        """The receipt. Raises by outcome as `publish` does, or TimedOut when there is none after `timeout` seconds."""
        try:
            return self._future.result(timeout)
        except FutureTimeout:
            raise TimedOut(f"the publish has no outcome after {timeout:g} s") from None

    def future(self) -> Future[Receipt]:
        """The receipt as a `concurrent.futures.Future` (`asyncio.wrap_future` makes it awaitable).

        Its callbacks run on the I/O thread and must not block.
        """
        return self._future


_FAILURES: dict[Outcome, tuple[type[PublishFailed], str, str | None]] = {
    Outcome.RETURNED: (
        Unroutable,
        "no queue took the message",
        "Declare the queue or the binding first; publishing never does.",
    ),
    Outcome.NACKED: (Nacked, "a queue refused the message", "It may be full (reject-publish); try again later."),
    Outcome.REFUSED: (PublishRefused, "the broker refused the message", None),
    Outcome.NEVER_SENT: (NeverSent, "the message was not sent", "It can be sent again without risk."),
    Outcome.UNKNOWN: (
        OutcomeUnknown,
        "it is not known whether the broker has the message",
        "Send it again with the same message id if its consumers tolerate a duplicate.",
    ),
}


def failure_of(entry: Entry) -> PublishFailed:
    """The error for a settled entry that was not CONFIRMED."""
    assert entry.outcome is not None
    kind, sentence, hint = _FAILURES[entry.outcome]
    sent = entry.envelope
    where = f"exchange {sent.exchange!r}, key {sent.routing_key!r}" if sent.exchange else f"queue {sent.routing_key!r}"
    return kind(
        f"{sentence} ({where}){f': {entry.reason}' if entry.reason else ''}",
        hint=hint,
        outcome=entry.outcome,
        exchange=sent.exchange,
        routing_key=sent.routing_key,
        message_id=sent.properties.message_id,
        text=entry.reason,
    )


def _receipt_of(entry: Entry, started: float) -> Receipt:
    if entry.outcome is not Outcome.CONFIRMED:
        raise failure_of(entry)
    return Receipt(entry.envelope.properties.message_id, entry.outcome, time.monotonic() - started)


class MessagePublisher:
    """Publishes to queues and exchanges of a broker.

    Args:
        broker: where to. All publishers of one broker share a channel and its window.
        schemas: action -> TypedDict; a message whose `action` is among them is checked before it is sent.

    Thread: any number of threads may publish at once.
    """

    def __init__(self, broker: MessageBroker, *, schemas: Mapping[str, type] | None = None) -> None:
        self._broker = broker
        self._schemas = schemas or {}
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
        **properties: Any,
    ) -> Receipt:
        """Publish one JSON message and wait until the broker has it.

        Args:
            queue: the queue, through the default exchange; None with `exchange`.
            message: anything JSON can carry.
            exchange, routing_key: publish there instead.
            headers: the AMQP headers.
            mandatory: fail with Unroutable when no queue takes it, instead of losing it silently.
            timeout: seconds for all of it, a reconnect included.
            on_unknown: "retry" sends a message of unknown outcome again until the deadline, with the same message id
                and the header `busctl-republished`: for consumers that tolerate or recognise a duplicate.
            properties: AMQP properties by name, for example `priority=5`, `correlation_id="7"`, `expiration=60000`.

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
            try:
                return self.publish_envelope(envelope, mandatory=mandatory, timeout=deadline - time.monotonic())
            except OutcomeUnknown:
                if on_unknown == "raise" or time.monotonic() >= deadline:
                    raise
            envelope.properties.headers = {**envelope.headers, REPUBLISHED_HEADER: 1}

    def publish_envelope(self, envelope: Envelope, *, mandatory: bool = True, timeout: float = 30.0) -> Receipt:
        """Publish an envelope exactly as it is and wait until the broker has it. Raises as `publish`."""
        started = time.monotonic()
        settled = threading.Lock()
        settled.acquire()
        entry = self._hand_over(envelope, mandatory, started + timeout, lambda _entry: settled.release())
        if not settled.acquire(timeout=max(0.0, started + timeout - time.monotonic()) + 1.0):
            self._channel.abandon(entry, f"no confirm after {timeout:g} s")
            settled.acquire(timeout=5.0)
            entry.outcome = entry.outcome or Outcome.UNKNOWN
        return _receipt_of(entry, started)

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
        **properties: Any,
    ) -> Publishing:
        """Hand one JSON message over and return a handle; waits only while the window is full. Args as of `publish`.

        Raises:
            NeverSent: the window was full until the deadline. PublishRefused: AMQP cannot carry it.
        """
        envelope = self.envelope(
            queue, message, exchange=exchange, routing_key=routing_key, headers=headers, **properties
        )
        handle = Publishing()
        self._hand_over(envelope, mandatory, time.monotonic() + timeout, handle._settle)
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
        batch = _Batch()
        index = -1
        for index, (queue, message) in enumerate(messages):
            try:
                envelope = self.envelope(queue, message)
                self._hand_over(envelope, True, time.monotonic() + timeout, batch.settled, index)
            except NeverSent as error:
                batch.not_sent(_unconfirmed(index, envelope, Outcome.NEVER_SENT, str(error)))
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
        **properties: Any,
    ) -> Envelope:
        """What `publish` would send: JSON body, persistent, with a message id and the time."""
        if isinstance(message, dict) and (schema := self._schemas.get(message.get("action", ""))) is not None:
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
            built = Properties(headers=dict(headers) if headers else None, **properties)
        except TypeError as error:
            raise PublishRefused(
                f"not an AMQP property: {error}", hint=f"Known: {', '.join(Properties.__struct_fields__)}."
            ) from None
        key = routing_key if routing_key is not None else queue or ""
        return Envelope(exchange=exchange, routing_key=key, properties=built, body=encode_json(message))

    @property
    def _channel(self) -> PublishChannel:
        return self._broker.links.publish_channel

    def _hand_over(
        self, envelope: Envelope, mandatory: bool, deadline: float, on_settled: Callable[[Entry], None], index: int = 0
    ) -> Entry:
        broker = self._broker
        if broker.read_only:
            broker.guard_change("publishing")
        channel = broker.links.publish_channel
        channel.link.open()
        entry = Entry(envelope, channel.encode(envelope, mandatory), mandatory, deadline, on_settled, index)
        if not channel.window.acquire(entry.size, deadline):
            entry.outcome, entry.reason = (
                Outcome.NEVER_SENT,
                f"the window stayed full; the link is {channel.link.state.value}",
            )
            raise failure_of(entry)
        channel.publish(entry)
        return entry


class _Batch:
    """Counts the outcomes of one `publish_many`. What the I/O thread writes, only it writes: no lock."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._settled = 0
        self._expected = -1
        self._counts: Counter[Outcome] = Counter()
        self._unconfirmed: list[Unconfirmed] = []
        self._not_sent: list[Unconfirmed] = []

    def settled(self, entry: Entry) -> None:
        """The I/O thread's call for each entry."""
        assert entry.outcome is not None
        if entry.outcome is not Outcome.CONFIRMED:
            self._unconfirmed.append(_unconfirmed(entry.index, entry.envelope, entry.outcome, entry.reason))
        self._counts[entry.outcome] += 1
        self._settled += 1
        if self._settled == self._expected:
            self._done.set()

    def not_sent(self, unconfirmed: Unconfirmed) -> None:
        """The caller's thread's, for what was not handed over."""
        self._not_sent.append(unconfirmed)

    def wait(self, given: int, timeout: float) -> None:
        self._expected = given - len(self._not_sent)
        if self._settled < self._expected and not self._done.wait(timeout):
            missing = self._expected - self._settled
            raise TimedOut(f"{missing} of {given} publishes have no outcome after {timeout:g} s")

    def report(self, elapsed_s: float) -> PublishReport:
        counts = self._counts + Counter(entry.outcome for entry in self._not_sent)
        unconfirmed = sorted(self._unconfirmed + self._not_sent, key=lambda entry: entry.index)
        return PublishReport(dict(counts), unconfirmed, elapsed_s)


def _unconfirmed(index: int, envelope: Envelope, outcome: Outcome, reason: str | None) -> Unconfirmed:
    return Unconfirmed(index, envelope.routing_key, envelope.properties.message_id, outcome, reason)


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
