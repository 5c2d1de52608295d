"""After a kill: what became of the batches that the journal finds open, read off the queue and the broker's age."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.envelope import Delivery, Outcome
from busctl_lib.journal import Intent, Journal, OpenBatch, Operation, Verdict, identity, unpack
from busctl_lib.management import ManagementClient, restarted_since
from busctl_lib.transfers.lull import Lull
from busctl_lib.transfers.requests import Request
from busctl_lib.transfers.routes import RouteMap
from busctl_lib.transfers.sorter import WINDOW
from busctl_lib.transfers.works import publish

_SLACK = 500
_IDLE_S = 0.25
_BATCH = 250
_DEADLINE_S = 60.0
_RESTARTED = "a node of the broker was started while it was under way"
_KILLED = "it was under way when busctl ended"
_IN_PART = f"{_KILLED}, and only a part of its batch is in its queue"
_NOT_HELD = f"{_KILLED}, and {{!r}} is a quorum queue: it has arrived unless the queue dropped it, which is rare"
"""Its leader hears of the end of a client before it writes down what waits there, and takes nothing of that any more: a
transaction whose client dies before the answer may be acked as a whole and arrive in part (seen on 3.10.8)."""


class Ahead:
    """The first messages of a queue, by identity; they stay in the hand of the mover.

    Args:
        mover: Open, on the queue.
        most: How many to look at.
        wanted: What is looked for: while some of it is absent, other consumers' end is waited for.
        again: Whether they are left to come once more.
    """

    def __init__(self, mover: Mover, most: int, wanted: Counter[bytes], *, again: bool) -> None:
        self.present: Counter[bytes] = Counter()
        deliveries: list[Delivery] = []
        epoch, lull = mover.epoch, Lull(mover)
        while self.present.total() < most and mover.failure is None and mover.epoch == epoch:
            if not again and self.present.total() >= WINDOW:
                break
            found = mover.take(min(1000, most - self.present.total()), _IDLE_S, epoch)
            self.present.update(identity(delivery) for delivery in found)
            if not again:
                deliveries += found
            if found:
                lull.over()
            elif lull.is_the_end(alone=bool(wanted - self.present)):
                break
        if again:
            mover.restart()  # the same messages come again, without having been kept here
        else:
            mover.push_back(deliveries)


class Reconciler:
    """Settles what an operation left open.

    Args:
        mover: Open, on the source.
        journal: Where the open batches are.
        operation: The one to be resumed.
        request: What it was about.
        management: Tells whether the broker was restarted.
        routes: Tell whether a route that was used still leads somewhere.
        again: Whether the source can be read twice for nothing (a classic queue).
    """

    def __init__(
        self,
        mover: Mover,
        journal: Journal,
        operation: Operation,
        request: Request,
        management: ManagementClient,
        routes: RouteMap,
        *,
        again: bool,
    ) -> None:
        self._mover, self._journal, self._operation = mover, journal, operation
        self._request, self._management, self._routes, self._again = request, management, routes, again

    def settle_open(self) -> None:
        """Give every open batch its outcome, or strike it out where nothing of it happened."""
        batches = self._journal.open_batches(self._operation.id)
        if not batches:
            return
        present = self._look_ahead(Counter(intent.identity for batch in batches for intent in batch.intents))
        present -= self._journal.identities(self._operation.id, "returned", "failed", "unknown")
        for batch in batches:
            verdicts = self._verdicts(batch, present)
            if verdicts is None:
                self._journal.drop_batch(self._operation.id, batch.number)
            else:
                self._journal.close_batch(self._operation.id, batch.number, verdicts)

    def _look_ahead(self, wanted: Counter[bytes]) -> Counter[bytes]:
        counts = self._journal.counts(self._operation.id)
        staying = counts["returned"] + counts["failed"] + counts["unknown"]
        if not self._request.takes:
            staying += counts["moved"]
        if self._request.selects:
            staying += self._mover.count()[0]  # what is left alone stands between them
        return Ahead(self._mover, wanted.total() + staying + _SLACK, wanted, again=self._again).present

    def _verdicts(self, batch: OpenBatch, present: Counter[bytes]) -> list[Verdict] | None:
        """What became of a batch; None: nothing of it happened."""
        if batch.number < 0 or not self._request.takes:
            return [Verdict(intent, "unknown", _KILLED) for intent in batch.intents]
        wanted = Counter(intent.identity for intent in batch.intents)
        here = wanted & present
        if not batch.exact:
            present -= here
            return [self._by_presence(intent, here) for intent in batch.intents]
        if restarted_since(self._management, batch.began_at):
            return [Verdict(intent, "unknown", _RESTARTED) for intent in batch.intents]
        leaving = Counter(intent.identity for intent in batch.intents if not self._rewrites(intent))
        still = (leaving & here).total()
        if self._again:  # all or none, but for copies of others
            untouched, in_part = 2 * still >= leaving.total(), False
        else:  # acks of a quorum queue may get lost
            untouched, in_part = here == wanted, still > 0
        if untouched:
            present -= here
            return None
        if in_part:
            return [Verdict(intent, "unknown", _IN_PART) for intent in batch.intents]
        return [self._committed(intent, here) for intent in batch.intents]

    def _rewrites(self, intent: Intent) -> bool:
        """Whether it went behind the others of its own queue."""
        return (intent.to_exchange, intent.to_key) == ("", self._request.source)

    def _done(self, intent: Intent) -> Verdict:
        return Verdict(intent, "skipped" if self._rewrites(intent) else "moved")

    @staticmethod
    def _by_presence(intent: Intent, here: Counter[bytes]) -> Verdict:
        if here[intent.identity] > 0:
            here[intent.identity] -= 1
            return Verdict(intent, "unknown", _KILLED)
        return Verdict(intent, "moved")  # it was acked, which follows the confirm

    def _committed(self, intent: Intent, here: Counter[bytes]) -> Verdict:
        """It was taken out of its queue and sent, unless something speaks against it."""
        done = self._done(intent)
        if self._discards:
            return done
        if self._rewrites(intent) and here[intent.identity] > 0:
            here[intent.identity] -= 1
            return done
        reach = self._routes.reach(unpack(intent))
        if reach.problem is not None:  # its route leads nowhere now: it may have come back to us
            return Verdict(intent, "unknown", reach.problem)
        return Verdict(intent, "unknown", _NOT_HELD.format(reach.quorum[0])) if reach.quorum else done

    @property
    def _discards(self) -> bool:
        return self._request.kind == "discard" or self._request.discard

    # -- unknown messages

    def resend(self, seqs: set[int]) -> None:
        """Send unknown messages again: from the queue what is there, the rest as the journal kept it."""
        operation = self._operation.id
        kept = [intent for intent in self._journal.kept(operation) if intent.seq in seqs]
        present = self._look_ahead(Counter(intent.identity for intent in kept))
        present -= self._journal.identities(operation, "returned", "failed")
        absent: list[Intent] = []
        for intent in kept:
            if present[intent.identity] > 0:
                present[intent.identity] -= 1
            else:
                absent.append(intent)
        sent_seqs = {intent.seq for intent in absent}
        self._journal.forget(operation, seqs - sent_seqs)
        if self._discards:
            self._journal.close_batch(operation, None, [Verdict(intent, "moved") for intent in absent])
            return
        number = min([0, *(batch.number for batch in self._journal.open_batches(operation))])
        for place in range(0, len(absent), _BATCH):
            number -= 1
            self._send(number, absent[place : place + _BATCH])

    def _send(self, number: int, intents: list[Intent]) -> None:
        """Publish messages that are in no queue as far as is known; none is lost if this is killed."""
        operation, mover = self._operation.id, self._mover
        self._journal.open_batch(operation, number, intents, exact=mover.mode is Mode.EXACT)
        envelopes = [unpack(intent) for intent in intents]
        sent = publish(mover, envelopes, _DEADLINE_S)
        if sent is None or sent.outcome is not Outcome.CONFIRMED:
            verdicts = [Verdict(intent, "unknown", "sending it again was not answered") for intent in intents]
        else:
            returned = sent.returned
            verdicts = [
                Verdict(intent, "unknown", returned[place]) if place in returned else self._done(intent)
                for place, intent in enumerate(intents)
            ]
        self._journal.close_batch(operation, number, verdicts)
        known = [verdict.intent.seq for verdict in verdicts if verdict.outcome != "unknown"]
        self._journal.forget_bodies(operation, known)


def audit(journal: Journal, operation: str) -> Iterator[bytes]:
    """The audit of one operation as JSON lines: the operation, then a line a message."""
    yield msgspec.json.encode(journal.operation(operation)) + b"\n"
    for line in journal.lines(operation):
        yield msgspec.json.encode(line) + b"\n"
