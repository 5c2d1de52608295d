"""Batches of a mover: what was sent together, which of it came back, and what became of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from busctl_lib.envelope import Envelope, Outcome, Properties
from busctl_lib.errors import BrokerRefused, BusError


class Sent(msgspec.Struct):
    """What became of a batch."""

    outcome: Outcome
    """CONFIRMED: done but for what `returned` names. NEVER_SENT: nothing was done. REFUSED: nothing was done, the
    broker closed the channel. NACKED: a queue refused a message of a transaction, the rest of it happened. UNKNOWN."""
    reason: str | None = None
    returned: dict[int, str] = {}
    """By place in the batch: why it was not taken. Exact: it was acked all the same. Fast: it is still held."""
    unknown: list[int] = []
    """Fast: places whose confirm did not come."""


class Batch:
    """A batch under way. Thread: `wait` from the owner's; the rest on the I/O thread."""

    def __init__(self, envelopes: Sequence[Envelope], tags: Sequence[int], epoch: int) -> None:
        self.envelopes = envelopes
        self.tags = tags
        self.epoch = epoch
        self.sent: Sent | None = None
        self.open = len(envelopes)
        self._settled = threading.Event()
        self._answer = Sent(Outcome.CONFIRMED)
        self._searched = 0

    def wait(self, timeout: float) -> Sent | None:
        """What became of it; None while that is not known."""
        self._settled.wait(timeout)
        return self.sent

    def settle(self, sent: Sent | None = None) -> None:
        """Say what became of it; the first word counts."""
        if self.sent is None:
            self.sent = sent or self._answer
            self._settled.set()

    def end(self, outcome: Outcome, reason: str) -> None:
        """Nothing more will be heard."""
        self.settle(Sent(outcome, reason, self._answer.returned, self._answer.unknown))

    def note_return(self, place: int, reason: str) -> None:
        """Remember a return."""
        self._answer.returned[place] = reason

    def was_returned(self, place: int) -> bool:
        """Whether its return has come."""
        return place in self._answer.returned

    def note_unknown(self, place: int) -> None:
        """Remember a publish without a confirm."""
        self._answer.unknown.append(place)

    def lose_count(self, reason: str) -> None:
        """A return fits no message: whatever else happened, it is not known which one was not taken."""
        self._answer.outcome, self._answer.reason = Outcome.UNKNOWN, reason

    def find(self, exchange: str, key: str, properties: Properties, body: bytes) -> int | None:
        """The place of a returned message of a transaction: returns come in the order of the publishes."""
        for place in range(self._searched, len(self.envelopes)):
            if self.is_at(place, exchange, key, properties, body):
                self._searched = place + 1
                return place
        return None

    def is_at(self, place: int, exchange: str, key: str, properties: Properties, body: bytes) -> bool:
        """Whether the message at a place, not returned yet, is this one."""
        sent = self.envelopes[place]
        return (
            sent.routing_key == key
            and sent.exchange == exchange
            and place not in self._answer.returned
            and sent.properties.message_id == properties.message_id
            and sent.body == body
        )


class Confirms:
    """The confirms of one channel's batches. Thread: the I/O thread."""

    def __init__(self) -> None:
        self._seq = 0
        self._low = 1
        self._unconfirmed: dict[int, tuple[Batch, int]] = {}
        self._batches: list[Batch] = []

    def add(self, batch: Batch) -> None:
        """A batch goes out now."""
        for place in range(len(batch.envelopes)):
            self._seq += 1
            self._unconfirmed[self._seq] = (batch, place)
        self._batches.append(batch)

    def take(self, tag: int, multiple: bool, ack: bool) -> list[int]:
        """Take a confirm in; the tags of the deliveries that may be acked for it."""
        unconfirmed = self._unconfirmed
        if multiple:
            found = [unconfirmed.pop(seq) for seq in range(self._low, tag + 1) if seq in unconfirmed]
            self._low = tag + 1
        else:
            one = unconfirmed.pop(tag, None)
            found = [one] if one is not None else []
        acks: list[int] = []
        for batch, place in found:
            batch.open -= 1
            if not ack:
                batch.note_return(place, "a queue refused it")
            elif batch.tags and not batch.was_returned(place):
                acks.append(batch.tags[place])
        return acks

    def settle_ended(self) -> None:
        """Settle the batches that are confirmed as a whole, once their acks are on their way."""
        for batch in [batch for batch in self._batches if batch.open == 0]:
            self._batches.remove(batch)
            batch.settle()

    def note_return(self, exchange: str, key: str, properties: Properties, body: bytes, reason: str) -> bool:
        """Remember a return, of the first message in the order sent that it fits; what is confirmed cannot be meant."""
        for batch, place in self._unconfirmed.values():
            if batch.is_at(place, exchange, key, properties, body):
                batch.note_return(place, reason)
                return True
        return False

    def lose(self, reason: BusError) -> None:
        """The channel is gone: what is not confirmed is unknown, but for a lone publish that the broker refused."""
        left, self._unconfirmed = self._unconfirmed, {}
        batches, self._batches = self._batches, []
        for batch, place in left.values():
            batch.note_unknown(place)
        for batch in batches:
            lone = isinstance(reason, BrokerRefused) and len(batch.envelopes) == 1
            outcome = outcome_of(reason) if lone and isinstance(reason, BrokerRefused) else Outcome.UNKNOWN
            batch.end(outcome, str(reason))


def outcome_of(error: BrokerRefused) -> Outcome:
    """What a channel error says of the transaction, or the lone publish, that was under way.

    A publish that is not accepted ends the channel before anything is done. "partial tx completion" comes after a
    commit in which a queue refused a message: the acks and the other publishes have happened. Any other error, an ack
    timeout for one, may come between the doing and its answer.
    """
    if "partial tx" in error.text:
        return Outcome.NACKED
    if error.code in (403, 404) or (error.code == 406 and "timed out" not in error.text):
        return Outcome.REFUSED
    return Outcome.UNKNOWN
