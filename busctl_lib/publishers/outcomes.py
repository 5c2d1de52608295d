"""What became of publishes: receipts, errors by outcome, reports of many."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import msgspec

from busctl_lib.amqp.confirms import Entry
from busctl_lib.envelope import Envelope, Outcome
from busctl_lib.errors import (
    Nacked,
    NeverSent,
    NoConfirm,
    OutcomeUnknown,
    PublishFailed,
    PublishRefused,
    TimedOut,
    Unroutable,
)


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

    def settle(self, entry: Entry) -> None:
        """The I/O thread's call with the outcome."""
        try:
            self._future.set_result(receipt_of(entry, self._started))
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
        "declare the queue or the binding first; publishing never does",
    ),
    Outcome.NACKED: (
        Nacked,
        "a queue refused the message",
        "it may be full (reject-publish), or its node down; try again later",
    ),
    Outcome.REFUSED: (PublishRefused, "the broker refused the message", None),
    Outcome.NEVER_SENT: (NeverSent, "the message was not sent", "it can be sent again without risk"),
    Outcome.UNKNOWN: (
        OutcomeUnknown,
        "it is not known whether the broker has the message",
        "send it again with the same message id if its consumers tolerate a duplicate",
    ),
}


def failure_of(entry: Entry) -> PublishFailed:
    """The error for a settled entry that was not CONFIRMED."""
    assert entry.outcome is not None
    kind, sentence, hint = _FAILURES[entry.outcome]
    if entry.late and kind is OutcomeUnknown:
        kind = NoConfirm
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


def receipt_of(entry: Entry, started: float) -> Receipt:
    """The receipt of a settled entry; raises by outcome. `started` is monotonic."""
    if entry.outcome is not Outcome.CONFIRMED:
        raise failure_of(entry)
    return Receipt(entry.envelope.properties.message_id, entry.outcome, time.monotonic() - started)


class Batch:
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
            self._unconfirmed.append(unconfirmed_of(entry.index, entry.envelope, entry.outcome, entry.reason))
        self._counts[entry.outcome] += 1
        self._settled += 1
        if self._settled == self._expected:
            self._done.set()

    def not_sent(self, unconfirmed: Unconfirmed) -> None:
        """The caller's thread's, for what was not handed over."""
        self._not_sent.append(unconfirmed)

    def wait(self, given: int, timeout: float) -> None:
        """Wait until as many as were given have an outcome. Raises TimedOut."""
        self._expected = given - len(self._not_sent)
        if self._settled < self._expected and not self._done.wait(timeout):
            missing = self._expected - self._settled
            raise TimedOut(f"{missing} of {given} publishes have no outcome after {timeout:g} s")

    def report(self, elapsed_s: float) -> PublishReport:
        """What became of them."""
        counts = self._counts + Counter(entry.outcome for entry in self._not_sent)
        unconfirmed = sorted(self._unconfirmed + self._not_sent, key=lambda entry: entry.index)
        return PublishReport(dict(counts), unconfirmed, elapsed_s)


def unconfirmed_of(index: int, envelope: Envelope, outcome: Outcome, reason: str | None) -> Unconfirmed:
    """What a report says of one envelope."""
    return Unconfirmed(index, envelope.routing_key, envelope.properties.message_id, outcome, reason)
