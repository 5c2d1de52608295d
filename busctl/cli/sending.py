"""Sending: one envelope, once or many times, and the account of what became of each."""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from busctl.cli.progress import Progress
from busctl.views import formats
from busctl_lib.envelope import Envelope, Outcome
from busctl_lib.errors import BusError

if TYPE_CHECKING:
    from busctl_lib.amqp.confirms import Entry
    from busctl_lib.broker import MessageBroker
    from busctl_lib.publishers import MessagePublisher

OnReceipt = Callable[[dict[str, Any]], None]
_LAST_CONFIRMS_S = 5.0
"""How long what is under way is waited for after an interruption."""


class Sending:
    """Publishes an envelope `count` times, pipelined, each with an id and a time of its own; stops at a failure.

    Args:
        rate: at most so many a second.
        timeout_s: how long each may take.
    """

    def __init__(
        self, broker: MessageBroker, envelope: Envelope, *, count: int = 1, rate: float | None, timeout_s: float
    ) -> None:
        self._broker = broker
        self._envelope = envelope
        self._count = count
        self._rate = rate
        self._timeout_s = timeout_s
        self._settled: queue.SimpleQueue[tuple[Entry, float]] = queue.SimpleQueue()
        self._sent = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._failure: BusError | None = None
        self._last_id: str | None = None
        self._started_at = self._ended_at = time.time()
        self.state = "planned"
        """planned, running, done, partial, failed or cancelled."""

    @property
    def started(self) -> bool:
        """Whether anything was handed to the broker."""
        return self._sent > 0

    def run(self, on_receipt: OnReceipt | None = None) -> BusError | None:
        """Send.

        Args:
            on_receipt: called with each outcome as a JSON object, in the order they come.

        Returns:
            What stopped it when some were confirmed before (state `partial`).

        Raises:
            BusError: by its outcome, when none was confirmed.
        """
        self._broker.links.publish.open()  # so that the times are of publishing alone
        self._started_at, self.state = time.time(), "running"
        try:
            self._send_all(on_receipt)
            self._finish(self._timeout_s, on_receipt)
        except BusError as error:
            self._failure = self._failure or error
            self._finish(_LAST_CONFIRMS_S, on_receipt)
        except BaseException:
            self._finish(_LAST_CONFIRMS_S, None)
            self.state = "cancelled"
            raise
        return self._conclude()

    def operation(self) -> dict[str, Any]:
        """Give the account as an operation in JSON."""
        account = {
            "kind": "publish",
            "target": self._envelope.exchange or self._envelope.routing_key,
            "exchange": self._envelope.exchange,
            "routing_key": self._envelope.routing_key,
            "state": self.state,
            "planned": self._count,
            "confirmed": self._outcomes[Outcome.CONFIRMED],
            "returned": self._outcomes[Outcome.RETURNED],
            "failed": sum(self._outcomes[kind] for kind in (Outcome.NACKED, Outcome.REFUSED, Outcome.NEVER_SENT)),
            "unknown": self._outcomes[Outcome.UNKNOWN] + self._sent - self._outcomes.total(),
            "started_at": _iso(self._started_at),
            "ended_at": _iso(self._ended_at),
        }
        if self._count == 1:
            account["message_id"] = self._last_id
        return account

    def summary(self) -> str:
        """Put the account into a line."""
        target = self._envelope.exchange or self._envelope.routing_key
        confirmed, took = self._outcomes[Outcome.CONFIRMED], self._ended_at - self._started_at
        if self._count == 1:
            outcome = next(iter(self._outcomes), Outcome.UNKNOWN)
            return f"{target}: {outcome.value} in {formats.duration(took)}, message id {self._last_id}"
        others = [f"{number} {kind.value}" for kind, number in self._outcomes.items() if kind is not Outcome.CONFIRMED]
        lost = self._sent - self._outcomes.total()
        others += [f"{lost} unknown"] if lost else []
        others += [f"{self._count - self._sent} not sent"] if self._sent < self._count else []
        return (
            f"{target}: {confirmed} of {self._count} confirmed in {formats.duration(took)}"
            f" ({formats.rate(confirmed / took if took else None)}/s){''.join(f', {other}' for other in others)}"
        )

    def _send_all(self, on_receipt: OnReceipt | None) -> None:
        from busctl_lib.publishers import MessagePublisher

        publisher, began = MessagePublisher(self._broker), time.monotonic()
        with Progress(wanted=self._count > 1) as progress:
            for index in range(self._count):
                due = began + index / self._rate if self._rate is not None else began
                self._take(due - time.monotonic(), on_receipt)
                if self._failure is not None:
                    return
                self._send(publisher)
                progress.show(f"{self._outcomes[Outcome.CONFIRMED]} of {self._count} confirmed")

    def _send(self, publisher: MessagePublisher) -> None:
        given = self._envelope.properties
        self._last_id = given.message_id or uuid.uuid4().hex
        properties = msgspec.structs.replace(
            given,
            message_id=self._last_id,
            timestamp=given.timestamp if given.timestamp is not None else int(time.time()),
        )
        began = time.monotonic()
        publisher.send_envelope(
            msgspec.structs.replace(self._envelope, properties=properties),
            lambda entry: self._settled.put((entry, time.monotonic() - began)),
            timeout=self._timeout_s,
        )
        self._sent += 1

    def _take(self, wait_s: float, on_receipt: OnReceipt | None) -> None:
        """Take what has settled; goes on for `wait_s`."""
        until = time.monotonic() + wait_s
        while True:
            try:
                entry, elapsed_s = self._settled.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            self._note(entry, elapsed_s, on_receipt)

    def _finish(self, wait_s: float, on_receipt: OnReceipt | None) -> None:
        """Wait for what is under way."""
        until = time.monotonic() + wait_s + 1
        while self._outcomes.total() < self._sent and time.monotonic() < until:
            # Of what comes, not longer than the next: the end is the time of the last confirm.
            with contextlib.suppress(queue.Empty):
                entry, elapsed_s = self._settled.get(timeout=max(0.0, until - time.monotonic()))
                self._note(entry, elapsed_s, on_receipt)
        self._ended_at = time.time()

    def _note(self, entry: Entry, elapsed_s: float, on_receipt: OnReceipt | None) -> None:
        from busctl_lib.publishers import failure_of

        assert entry.outcome is not None
        self._outcomes[entry.outcome] += 1
        if entry.outcome is not Outcome.CONFIRMED and self._failure is None:
            self._failure = failure_of(entry)
        if on_receipt is not None:
            receipt = {
                "message_id": entry.envelope.properties.message_id,
                "outcome": entry.outcome.value,
                "exchange": entry.envelope.exchange,
                "routing_key": entry.envelope.routing_key,
                "elapsed_s": round(elapsed_s, 6),
            }
            on_receipt(receipt | ({"reason": entry.reason} if entry.reason else {}))

    def _conclude(self) -> BusError | None:
        if self._failure is None and self._outcomes[Outcome.CONFIRMED] == self._count:
            self.state = "done"
            return None
        if self._failure is None:
            self._failure = BusError(f"{self._sent - self._outcomes.total()} publishes have no outcome yet")
        if self._outcomes[Outcome.CONFIRMED]:
            self.state = "partial"
            return self._failure
        self.state = "failed"
        raise self._failure


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
