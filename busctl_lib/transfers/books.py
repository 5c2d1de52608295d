"""What a run knows of its messages: what is away, what stays, what is unknown; each change is in the journal first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from busctl_lib.journal import Intent, Journal, Operation, Verdict
from busctl_lib.transfers.fixed import FixedSet, View
from busctl_lib.transfers.requests import UNDECIDED, Request


class Books:
    """The books of one operation, read from the journal at the beginning of a run.

    Thread: one.
    """

    def __init__(self, journal: Journal, operation: Operation, request: Request, fixed: FixedSet) -> None:
        self.operation = operation
        self.request = request
        self.reasons: Counter[str] = Counter()
        self.gone = 0
        """Messages of the set that somebody else had taken."""
        self.unknown = journal.identities(operation.id, "unknown")
        self.stays = journal.identities(operation.id, "returned", "failed", *([] if request.takes else ["moved"]))
        self._away = journal.identities(operation.id, "moved", "skipped") if request.takes else Counter[bytes]()
        self._journal, self._fixed = journal, fixed
        self._seqs: dict[bytes, int] = {}
        self._beyond = 0
        self._seq = journal.next_seq(operation.id)
        self._number = max((batch.number for batch in journal.open_batches(operation.id)), default=0)

    def next_seq(self) -> int:
        """A number for a message."""
        seq, self._seq = self._seq, self._seq + 1
        return seq

    def view(self) -> View:
        """What of the set is still to come from the queue's head."""
        return self._fixed.view(self._away + self.unknown, self._beyond)

    def open(self, intents: list[Intent], *, exact: bool) -> int:
        """Write down what is about to be sent; answers the batch's number."""
        self._number += 1
        self._journal.open_batch(self.operation.id, self._number, intents, exact=exact)
        return self._number

    def drop(self, number: int) -> None:
        """Nothing of a batch happened."""
        self._journal.drop_batch(self.operation.id, number)

    def close(self, number: int | None, verdicts: Sequence[Verdict]) -> None:
        """Write down what became of a batch, or of messages that were in none."""
        self._journal.close_batch(self.operation.id, number, verdicts)
        for verdict in verdicts:
            self._note(verdict)

    def moved(self, identity: bytes) -> Intent | None:
        """One of the messages of an identity that have left the queue, as the journal has it."""
        if self._away[identity] <= 0:
            return None
        if identity not in self._seqs:
            self._seqs = self._journal.seqs(self.operation.id, "moved", "skipped")
        seq = self._seqs.pop(identity, None)
        return self._journal.intent(self.operation.id, seq) if seq is not None else None

    def doubt(self, intent: Intent, reason: str) -> None:
        """A message that counted as moved is in its queue as well."""
        self._journal.close_batch(self.operation.id, None, [Verdict(intent, "unknown", reason)])
        self._away[intent.identity] -= 1
        self.operation.moved -= 1
        self.unknown[intent.identity] += 1
        self.operation.unknown += 1

    def put_back(self, verdicts: Sequence[Verdict]) -> None:
        """Messages that were unknown are in their queue again, behind the others."""
        self._journal.close_batch(self.operation.id, None, verdicts)
        self._journal.forget_bodies(self.operation.id, [verdict.intent.seq for verdict in verdicts])
        for verdict in verdicts:
            self.operation.unknown -= 1
            self.unknown[verdict.intent.identity] -= 1
            self._note(verdict)
        self._beyond += len(verdicts)

    def left(self) -> int:
        """How many messages of the plan have no outcome."""
        operation = self.operation
        done = operation.moved + operation.returned + operation.failed + operation.unknown
        return operation.planned - done

    def _note(self, verdict: Verdict) -> None:
        known_as, outcome, operation = verdict.intent.identity, verdict.outcome, self.operation
        if outcome == "moved":
            operation.moved += 1
            (self._away if self.request.takes else self.stays)[known_as] += 1
        elif outcome == "skipped":
            self._away[known_as] += 1
            operation.undecided += verdict.reason == UNDECIDED
        elif outcome == "unknown":
            operation.unknown += 1
            self.unknown[known_as] += 1
        else:
            self.stays[known_as] += 1
            self.reasons[verdict.reason or outcome] += 1
            if outcome == "returned":
                operation.returned += 1
            else:
                operation.failed += 1
