"""One message on its way through a transfer, and batches of them."""

from __future__ import annotations

import time
from collections import deque

import msgspec

from busctl_lib.amqp import wire
from busctl_lib.amqp.batches import Batch, Sent
from busctl_lib.amqp.movers import Mover
from busctl_lib.envelope import Delivery, Envelope, Outcome
from busctl_lib.journal import Intent, Verdict, steady, steady_header
from busctl_lib.transfers.requests import UNDECIDED
from busctl_lib.transfers.targets import Aim


class Work(msgspec.Struct):
    """A message, what it becomes, and what the journal will know of it."""

    delivery: Delivery
    envelope: Envelope
    frame: bytes
    intent: Intent
    alone: bool = False
    """Whether a refusal of it must not touch others."""
    sole: bool = True
    """Whether it reaches one queue only: refused means then that nobody has it."""
    rewrites: bool = False
    """Goes to the tail of its own queue."""
    undecided: bool = False
    """Whether that is so because nobody knows whether it is meant."""

    def arrived(self) -> Verdict:
        """It is where it was sent."""
        if self.rewrites:
            return Verdict(self.intent, "skipped", UNDECIDED if self.undecided else None)
        return Verdict(self.intent, "moved")


class UnderWay(msgspec.Struct):
    """A batch in the journal and on the wire."""

    number: int
    works: list[Work]
    epoch: int
    batch: Batch | None = None


def header_of(delivery: Delivery) -> bytes:
    """The properties of a delivery on the wire, as they are sent again."""
    if delivery.wire_properties is None:
        return wire.encode_properties(steady(delivery.properties))
    return steady_header(delivery.wire_properties)


def header_to_send(delivery: Delivery, aim: Aim) -> bytes:
    """The properties of what a delivery becomes, on the wire."""
    return header_of(delivery) if aim.as_it_is else wire.encode_properties(aim.envelope.properties)


def intent_of(delivery: Delivery, aim: Aim | None, seq: int, known_as: bytes) -> Intent:
    """What the journal writes down of a message, without its content."""
    return Intent(
        seq=seq,
        identity=known_as,
        message_id=delivery.properties.message_id,
        exchange=delivery.exchange,
        routing_key=delivery.routing_key,
        to_exchange=aim.envelope.exchange if aim is not None else "",
        to_key=aim.envelope.routing_key if aim is not None else "",
    )


def publish(mover: Mover, envelopes: list[Envelope], patience_s: float) -> Sent | None:
    """Publish in a batch that settles no delivery, once there is a channel; None while nothing is known of it."""
    deadline = time.monotonic() + patience_s
    frames = [mover.encode(envelope) for envelope in envelopes]
    while time.monotonic() < deadline and mover.failure is None:
        if not mover.ready:
            time.sleep(0.05)
            continue
        batch = mover.send(envelopes, frames, [], mover.epoch)
        sent = batch.wait(deadline - time.monotonic())
        if sent is None or sent.outcome is not Outcome.NEVER_SENT:
            return sent
    return None


class Pace:
    """How fast it goes, and how fast it may go."""

    _SPAN_S = 5.0

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._due = time.monotonic()
        self._done: deque[tuple[float, int]] = deque()

    def may(self, most: int) -> int:
        """How many messages may go now, at most `most`."""
        if self._limit is None:
            return most
        now = time.monotonic()
        self._due = max(self._due, now - 0.25)  # what was not used is not saved up
        if now < self._due:
            return 0
        return max(1, min(most, int((now - self._due + 0.25) * self._limit)))

    def count(self, messages: int) -> None:
        """So many have been sent."""
        if self._limit is not None:
            self._due = max(self._due, time.monotonic() - 0.25) + messages / self._limit
        self._done.append((time.monotonic(), messages))

    @property
    def rate(self) -> float:
        """Messages a second over the last seconds."""
        now = time.monotonic()
        while self._done and self._done[0][0] < now - self._SPAN_S:
            self._done.popleft()
        if not self._done:
            return 0.0
        return sum(count for _, count in self._done) / max(0.25, now - self._done[0][0])
