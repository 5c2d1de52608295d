"""Sending: envelopes, one after the other in their time, and the account of what became of each."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
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
_LAST_CONFIRMS_S = 2.0
"""How long what is under way is waited for after an interruption."""


Letters = Iterable[tuple[float, Envelope]]
"""When each is due, in seconds since the first, and what it is."""
_SPARED = (Outcome.NEVER_SENT, Outcome.UNKNOWN)
"""Outcomes after which the next would fare no better."""


class Sending:
    """Publishes envelopes, pipelined; stops at a failure.

    Args:
        letters: what to send, and when.
        count: how many these are, if that is known.
        target: where to, in a word.
        kind: of the operation.
        timeout_s: how long each may take.
        concurrency: at most so many without an outcome at a time; None leaves it to the broker's window.
        go_on: do not stop at a message that is returned, refused or nacked.
    """

    def __init__(
        self,
        broker: MessageBroker,
        letters: Letters,
        *,
        count: int | None,
        target: str,
        timeout_s: float,
        kind: str = "publish",
        concurrency: int | None = None,
        go_on: bool = False,
    ) -> None:
        self._broker = broker
        self._letters = letters
        self._count = count
        self._target = target
        self._kind = kind
        self._timeout_s = timeout_s
        self._concurrency = concurrency
        self._go_on = go_on
        self._settled: queue.SimpleQueue[tuple[Entry, float] | None] = queue.SimpleQueue()
        self._sent = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._failure: BusError | None = None
        self._last: Envelope | None = None
        self._stopping = False
        self._ended = threading.Event()
        self._trouble: BaseException | None = None
        self._started_at = time.time()
        self._last_confirm_at: float | None = None
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
        # Ctrl-C strikes the main thread anywhere, also between a publish and its being counted: so another one sends.
        worker = threading.Thread(target=self._work, args=(on_receipt,), name="busctl-sending", daemon=True)
        worker.start()
        try:
            self._ended.wait()
        except BaseException:
            self._stopping = True
            self._settled.put(None)
            self._ended.wait(_LAST_CONFIRMS_S + 2)
            self.state = "cancelled"
            raise
        if self._trouble is not None:
            self.state = "cancelled"
            raise self._trouble
        return self._conclude()

    def _work(self, on_receipt: OnReceipt | None) -> None:
        """Send all and wait for the outcomes."""
        try:
            self._send_all(on_receipt)
            self._finish(_LAST_CONFIRMS_S if self._stopping else self._timeout_s, on_receipt)
        except BusError as error:
            self._failure = self._failure or error
            self._finish(_LAST_CONFIRMS_S, None)
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: it is raised where it is waited for
            self._finish(_LAST_CONFIRMS_S, None)
            self._trouble = error
        finally:
            self._ended.set()

    def operation(self) -> dict[str, Any]:
        """Give the account as an operation in JSON."""
        last = self._last
        account = {
            "kind": self._kind,
            "target": self._target,
            **(
                {"exchange": last.exchange, "routing_key": last.routing_key} if last and self._kind == "publish" else {}
            ),
            "state": self.state,
            "planned": self._planned,
            "confirmed": self._outcomes[Outcome.CONFIRMED],
            "returned": self._outcomes[Outcome.RETURNED],
            "failed": sum(self._outcomes[kind] for kind in (Outcome.NACKED, Outcome.REFUSED, Outcome.NEVER_SENT)),
            "unknown": self._outcomes[Outcome.UNKNOWN] + self._sent - self._outcomes.total(),
            "started_at": _iso(self._started_at),
            "ended_at": _iso(self._ended_at),
        }
        if self._planned == 1 and last is not None:
            account["message_id"] = last.properties.message_id
        return account

    @property
    def _ended_at(self) -> float:
        """When the last confirm came; now, where somebody did not wait for it."""
        return self._last_confirm_at or time.time()

    @property
    def _planned(self) -> int:
        return self._count if self._count is not None else self._sent

    def summary(self) -> str:
        """Put the account into a line."""
        confirmed, took = self._outcomes[Outcome.CONFIRMED], self._ended_at - self._started_at
        if self._planned == 1 and self._kind == "publish" and self._last is not None:
            outcome = next(iter(self._outcomes), Outcome.UNKNOWN)
            message_id = self._last.properties.message_id
            return f"{self._target}: {outcome.value} in {formats.duration(took)}, message id {message_id}"
        others = [f"{number} {kind.value}" for kind, number in self._outcomes.items() if kind is not Outcome.CONFIRMED]
        lost = self._sent - self._outcomes.total()
        others += [f"{lost} unknown"] if lost else []
        others += [f"{self._planned - self._sent} not sent"] if self._sent < self._planned else []
        return (
            f"{self._target}: {confirmed} of {self._planned} confirmed in {formats.duration(took)}"
            f" ({formats.rate(confirmed / took if took else None)}/s){''.join(f', {other}' for other in others)}"
        )

    def _send_all(self, on_receipt: OnReceipt | None) -> None:
        from busctl_lib.publishers import MessagePublisher

        publisher, began = MessagePublisher(self._broker, moves=self._kind == "play"), time.monotonic()
        with Progress(wanted=self._count != 1) as progress:
            for due_s, envelope in self._letters:
                self._take(began + due_s - time.monotonic(), on_receipt)
                self._wait_for_room(on_receipt)
                if self._stopping or (self._failure is not None and self._stops(self._failure)):
                    return
                self._send(publisher, envelope)
                progress.show(self._bar())

    def _stops(self, failure: BusError) -> bool:
        return not self._go_on or getattr(failure, "outcome", None) in _SPARED

    def _wait_for_room(self, on_receipt: OnReceipt | None) -> None:
        until = time.monotonic() + self._timeout_s + _LAST_CONFIRMS_S
        while self._concurrency is not None and self._sent - self._outcomes.total() >= self._concurrency:
            if self._stopping or not self._next(until, on_receipt):
                return

    def _bar(self) -> str:
        confirmed = self._outcomes[Outcome.CONFIRMED]
        if self._count is None:
            return f"{confirmed:,} confirmed"
        full = 20 * confirmed // max(1, self._count)
        return f"[{'#' * full}{'.' * (20 - full)}] {confirmed:,} of {self._count:,} confirmed"

    def _send(self, publisher: MessagePublisher, envelope: Envelope) -> None:
        self._last = envelope
        began = time.monotonic()
        publisher.send_envelope(
            envelope, lambda entry: self._settled.put((entry, time.monotonic() - began)), timeout=self._timeout_s
        )
        self._sent += 1

    def _next(self, until: float, on_receipt: OnReceipt | None) -> bool:
        """Take what settles next; False when nothing did in time, or it is to end."""
        try:
            settled = self._settled.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return False
        if settled is None:
            return False
        self._note(*settled, on_receipt)
        return True

    def _take(self, wait_s: float, on_receipt: OnReceipt | None) -> None:
        """Take what has settled; goes on for `wait_s`."""
        until = time.monotonic() + wait_s
        while self._next(until, on_receipt):
            pass

    def _finish(self, wait_s: float, on_receipt: OnReceipt | None) -> None:
        """Wait for what is under way; when it is to end, no longer than for the last confirms."""
        until = time.monotonic() + wait_s + 1
        while self._outcomes.total() < self._sent and time.monotonic() < until:
            # Of what comes, not longer than the next: the end is the time of the last confirm.
            if not self._next(until, on_receipt) and self._stopping:
                until = min(until, time.monotonic() + _LAST_CONFIRMS_S)
        self._last_confirm_at = time.time()

    def _note(self, entry: Entry, elapsed_s: float, on_receipt: OnReceipt | None) -> None:
        from busctl_lib.publishers import failure_of

        assert entry.outcome is not None
        self._outcomes[entry.outcome] += 1
        if entry.outcome is not Outcome.CONFIRMED and (self._failure is None or entry.outcome in _SPARED):
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
        if self._failure is None and self._outcomes[Outcome.CONFIRMED] == self._planned:
            self.state = "done"
            return None
        if self._failure is None:
            self._failure = BusError(f"{self._sent - self._outcomes.total()} publishes have no outcome yet")
        if self._outcomes[Outcome.CONFIRMED]:
            self.state = "partial"
            return self._failure
        self.state = "failed"
        raise self._failure


def stamped(envelope: Envelope) -> Envelope:
    """Give a message an id and the time, where it has none."""
    given = envelope.properties
    properties = msgspec.structs.replace(
        given,
        message_id=given.message_id or uuid.uuid4().hex,
        timestamp=given.timestamp if given.timestamp is not None else int(time.time()),
    )
    return msgspec.structs.replace(envelope, properties=properties)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
