"""Undo: what an operation moved goes back; what it took away comes back out of the trash."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from busctl_lib.amqp.confirms import Entry
from busctl_lib.broker import MessageBroker
from busctl_lib.captures import CaptureReader
from busctl_lib.envelope import Envelope, Outcome
from busctl_lib.errors import BusError, ConfigError, GuardRefused, NotFound, TimedOut
from busctl_lib.journal import Intent, Journal, Operation, Verdict, identity, steady
from busctl_lib.management import ManagementClient
from busctl_lib.publishers import MessagePublisher
from busctl_lib.transfers.origins import USER_ID, without_foreign_user
from busctl_lib.transfers.plans import REFUSED, Plan, Target
from busctl_lib.transfers.requests import Account, Progress, Request, plain
from busctl_lib.transfers.routes import refuses_when_full
from busctl_lib.transfers.transfer import Transfer
from busctl_lib.transfers.trash import declare_again

_BATCH = 250
_PATIENCE_S = 60.0
"""Beyond the deadline of a publish."""


def undo_of(broker: MessageBroker, management: ManagementClient, journal: Journal, id: str) -> Transfer | Restore:  # noqa: A002
    """The operation that undoes another one.

    Raises:
        ConfigError: no such operation, or of another broker. GuardRefused: it cannot be undone, and why.
    """
    done = journal.operation(id)
    if done.state in ("running", "planned") or (done.state == "interrupted" and "request" in done.plan):
        raise GuardRefused(f"operation {done.id} is {done.state}", hint=f"end it first: busctl ops resume {done.id}")
    if done.undone_by is not None:
        raise GuardRefused(f"operation {done.id} was undone by {done.undone_by}")
    cluster = management.overview().cluster_name or broker.endpoints[0].address
    if (done.broker, done.vhost) != (cluster, broker.virtual_host):
        raise ConfigError(f"operation {done.id} is of vhost {done.vhost!r} at {done.broker}")
    if done.trash is not None:
        return Restore(broker, journal, done, cluster)
    if done.kind not in ("move", "park", "copy") or done.target is None:
        raise GuardRefused(f"operation {done.id} ({done.kind}) cannot be undone: {_why_not(done)}")
    request = Request(kind="undo", source=done.target, target=done.source)
    if done.kind == "copy":
        request = Request(kind="undo", source=done.target, discard=True)
    request.fast = any(_refuses_silently(broker, management, name) for name in (done.source, done.target))
    among = journal.identities(done.id, "moved")
    transfer = Transfer(broker, management, journal, request, among=among)
    transfer.operation.undoes = done.id
    return transfer


def _refuses_silently(broker: MessageBroker, management: ManagementClient, queue: str) -> bool:
    """Whether only confirms tell that a queue refused a message."""
    try:
        info = management.queue(broker.virtual_host, queue)
    except NotFound:
        return False
    return info.type == "quorum" and refuses_when_full(info)


def _why_not(done: Operation) -> str:
    if done.kind == "replay":
        return "its messages went to where they are consumed"
    if done.kind == "undo":
        return "do the operation again instead"
    return "nothing was kept"


def mark_undone(journal: Journal, account: Account) -> None:
    """Write into an operation that it was undone, so that it is not undone twice, unless some was refused."""
    undoes, by = account.operation.undoes, account.operation
    stayed = by.returned + by.failed
    if undoes is not None and by.moved and not stayed and by.state in ("done", "partial"):
        done = journal.operation(undoes)
        done.undone_by = by.id
        journal.set_undone(done)


class Restore:
    """Puts the messages of a trash back into the queue they were taken from.

    Args:
        broker: To the vhost.
        journal: Of this user.
        done: The operation that took them away.
        cluster: The broker's name.

    What an earlier restore of the same trash put back before it was stopped is not put back again.
    """

    def __init__(self, broker: MessageBroker, journal: Journal, done: Operation, cluster: str) -> None:
        assert done.trash is not None
        self.request = Request(kind="undo", source=done.source)
        self.plan: Plan | None = None
        self.account: Account | None = None
        self.engine: Restore | None = None
        self._broker, self._journal = broker, journal
        self._trash = Path(done.trash)
        self._queue = done.source
        self._user = broker.endpoints[0].username
        self._stop: str | None = None
        self._reasons: Counter[str] = Counter()
        self.operation = Operation(
            id=secrets.token_hex(5),
            kind="undo",
            source="trash",
            target=done.source,
            vhost=done.vhost,
            broker=cluster,
            undoes=done.id,
            plan={"request": plain(self.request), "restores": done.id},
        )
        self._definition: dict[str, Any] | None = done.plan.get("definition")
        """Of a queue that was deleted."""
        self._wanted = journal.identities(done.id, "moved") if done.kind in ("discard", "undo") else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._journal.release(self.operation.id)

    def stop(self, why: str = "cancelled") -> None:
        """End early. Thread: any."""
        self._stop = why

    def planning(self, _made: Plan | None = None) -> Iterator[Progress]:
        """Count what is in the trash. Raises NotFound: the queue is not there; ConfigError: nor is the trash."""
        self._broker.guard_change(f"putting messages back into {self._queue!r}")
        if self._definition is None:
            self._broker.declare_queue(self._queue, passive=True)
        warnings = ["their exchange and key will be the queue's own; headers are as they were"]
        count = foreign = 0
        for envelope in self._kept():
            count += 1
            foreign += envelope.properties.user_id not in (None, self._user)
        if foreign:
            warnings.append(f"{REFUSED[USER_ID]}: taken from {foreign:,}")
        self.operation.planned = count
        self.plan = Plan(
            operation=self.operation.id,
            request=self.request,
            vhost=self.operation.vhost,
            broker=self.operation.broker,
            source=f"the trash of {self.operation.undoes}",
            source_type="trash",
            waiting=count,
            examined=count,
            selected=count,
            targets=[Target(exchange="", routing_key=self._queue, count=count, queues=[self._queue])],
            warnings=warnings,
            made_at=time.time(),
        ).sign()
        yield Progress(operation=self.operation.id, planned=count, phase="reading")

    def running(self) -> Iterator[Progress]:
        """Publish them, each confirmed."""
        self.operation.state = "running"
        self._journal.begin(self.operation)
        self.engine = self
        if self._definition is not None:
            declare_again(self._broker, self._queue, self._definition)
        skip = self._restored_before()
        seq = self._journal.next_seq(self.operation.id)
        number = 0
        problem: str | None = None
        batch: list[tuple[Intent, Envelope]] = []
        try:
            for envelope in self._messages():
                known_as = identity(envelope)
                if skip[known_as] > 0:
                    skip[known_as] -= 1
                    continue
                batch.append((self._intent(envelope, seq, known_as), envelope))
                seq += 1
                if len(batch) >= _BATCH:
                    number += 1
                    yield self._publish(number, batch)
                    batch = []
                    if self._stop:
                        break
            if batch:
                yield self._publish(number + 1, batch)
        except BusError as error:
            problem = str(error)
            self._stop = "interrupted"
        self._end(problem)

    def _restored_before(self) -> Counter[bytes]:
        """What earlier restores of the same trash put back, or may have, before they were stopped."""
        found: Counter[bytes] = Counter()
        for each in self._journal.undoing(self.operation.undoes or ""):
            found += self._journal.identities(each.id, "moved", "unknown")
            for batch in self._journal.open_batches(each.id):
                found.update(intent.identity for intent in batch.intents)
        return found

    def _end(self, problem: str | None) -> None:
        operation = self.operation
        left = operation.returned + operation.failed + operation.unknown
        state = self._stop or ("partial" if left else "done")
        self.account = Account(operation=operation, reasons=dict(self._reasons.most_common(20)), problem=problem)
        try:
            self._journal.set_state(operation, state, problem)  # type: ignore[arg-type]
        finally:
            self._journal.release(operation.id)

    def _messages(self) -> Iterator[Envelope]:
        """What is in the trash, as the broker takes it."""
        for envelope in self._kept():
            envelope.properties = without_foreign_user(envelope.properties, self._user)
            yield envelope

    def _kept(self) -> Iterator[Envelope]:
        """What is in the trash; what a kill put in twice counts once."""
        wanted = Counter(self._wanted) if self._wanted is not None else None
        for file in sorted(self._trash.glob("*.jsonl.zst")):
            for delivery in CaptureReader(file):
                if wanted is not None:
                    known_as = identity(delivery)
                    if wanted[known_as] <= 0:
                        continue
                    wanted[known_as] -= 1
                properties = steady(delivery.properties)
                yield Envelope(exchange="", routing_key=self._queue, properties=properties, body=delivery.body)

    @staticmethod
    def _intent(envelope: Envelope, seq: int, known_as: bytes) -> Intent:
        return Intent(seq, known_as, envelope.properties.message_id, "", "", envelope.exchange, envelope.routing_key)

    def _publish(self, number: int, batch: list[tuple[Intent, Envelope]]) -> Progress:
        operation, publisher = self.operation, MessagePublisher(self._broker, moves=True)
        self._broker.links.publish.open()  # where that fails, nothing of the batch may count as sent
        self._journal.open_batch(operation.id, number, [intent for intent, _ in batch], exact=False)
        left = threading.Semaphore(0)
        outcomes: dict[int, Entry | str] = {}

        def settled(place: int, entry: Entry) -> None:
            outcomes[place] = entry
            left.release()

        for place, (_, envelope) in enumerate(batch):
            try:
                publisher.send_envelope(envelope, lambda entry, place=place: settled(place, entry))  # type: ignore[misc]
            except BusError as error:
                outcomes[place] = str(error)
                left.release()
        for _ in batch:
            if not left.acquire(timeout=_PATIENCE_S):
                raise TimedOut("publishes have no outcome: what was sent is not known")
        verdicts = [_verdict(intent, outcomes[place]) for place, (intent, _) in enumerate(batch)]
        self._journal.close_batch(operation.id, number, verdicts)
        self._reasons.update(verdict.reason for verdict in verdicts if verdict.reason)
        for verdict in verdicts:
            name = verdict.outcome
            setattr(operation, name, getattr(operation, name) + 1)
        return Progress.of(operation)


def _verdict(intent: Intent, entry: Entry | str) -> Verdict:
    """What is known of a message: its entry, or why it was not sent at all."""
    if isinstance(entry, str):
        return Verdict(intent, "failed", entry)
    if entry.outcome is Outcome.NEVER_SENT:
        return Verdict(intent, "failed", "it was not sent")
    if entry.outcome is Outcome.CONFIRMED:
        return Verdict(intent, "moved")
    return Verdict(intent, "unknown" if entry.outcome is Outcome.UNKNOWN else "returned", entry.reason)
