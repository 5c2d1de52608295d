"""Triage: the dead letters of a queue in groups of one cause, from the first so many messages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from busctl_lib.broker import MessageBroker
from busctl_lib.deadletters.dialects import Failure, failure_of
from busctl_lib.deadletters.fingerprints import cause, fingerprint, own_frame
from busctl_lib.deadletters.grounds import NOTHING_KNOWN, Grounds, GroundsOf
from busctl_lib.documents import document
from busctl_lib.envelope import Delivery
from busctl_lib.management import ManagementClient
from busctl_lib.moments import as_datetime
from busctl_lib.taps.peek import peek

SAMPLE = 5_000
_CELLS = 12
_CELL_S = 300
_EXAMPLE_BYTES = 16_384
_SKEW_S = 300.0
"""By how much a sender's clock may be ahead: a time beyond that is not when the message was sent."""


class Group(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Dead letters of one cause."""

    id: str
    """The same for the same cause, today and tomorrow."""
    cause: str
    count: int = 0
    dialect: str = "none"
    reason: str | None = None
    queue: str | None = None
    """Where they died."""
    exchange: str | None = None
    routing_key: str | None = None
    error_type: str | None = None
    frame: str | None = None
    """The innermost frame of the service itself; of the libraries' if there is no other."""
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    arrivals: list[int] = []
    """How many died in each five minutes of the last hour, the oldest first."""
    replayed: int = 0
    """How many of them were replayed before."""
    most_deaths: int = 0
    """How often the one of them that died most often died of it, as far as the broker counts."""
    moved: int = 0
    """How many did not come here by dying: somebody moved them, or the route of their queue was changed since."""
    example: dict[str, Any] = {}
    """The document of the newest."""


class Triage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The groups of one queue."""

    queue: str
    waiting: int
    """Messages that were ready."""
    examined: int
    """Those that were looked at: the first ones."""
    groups: list[Group]
    """The largest first."""
    looking: str = ""
    """What looking did to the queue."""
    grounds: Grounds = NOTHING_KNOWN
    """What tells where each died; not part of what is printed."""

    def of(self, group: Group, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Those of the messages that are of a group."""
        return [each for each in deliveries if fingerprint(failure_of(each, self.grounds)) == group.id]

    @property
    def sample(self) -> str:
        """How much of the queue this speaks of."""
        if self.examined >= self.waiting:
            return f"all {self.waiting:,} messages" if self.waiting != 1 else "the only message"
        return f"the first {self.examined:,} of {self.waiting:,} messages"


def triage(
    broker: MessageBroker,
    management: ManagementClient,
    vhost: str,
    queue: str,
    *,
    sample: int = SAMPLE,
    accept_loss: bool = False,
    accept_delay: bool = False,
) -> tuple[Triage, list[Delivery]]:
    """Look at a queue's messages and group them; the messages themselves come along.

    Args:
        broker: To the vhost.
        management: Of the same cluster.
        vhost: Where the queue is.
        queue: Its name.
        sample: Look at so many at most; of a quorum queue never at more than 2,000.
        accept_loss: Also when the peek budget is used up.
        accept_delay: Also where delayed retry hides for a while what is given back.

    Raises:
        NotFound: no such queue. GuardRefused: looking could cost a message, or would delay it.

    Effect: as of `taps.peek.peek`.
    """
    seen = peek(broker, management, vhost, queue, sample, accept_loss=accept_loss, accept_delay=accept_delay)
    grounds = GroundsOf(management, vhost, queue).value if seen.messages else NOTHING_KNOWN
    found = Triage(
        queue=queue,
        waiting=seen.ready,
        examined=len(seen.messages),
        groups=group(seen.messages, grounds),
        looking=seen.account,
        grounds=grounds,
    )
    return found, seen.messages


def group(deliveries: Iterable[Delivery], grounds: Grounds = NOTHING_KNOWN, *, now: float | None = None) -> list[Group]:
    """Put dead letters of a queue with these grounds into groups of one cause, the largest first."""
    now = time.time() if now is None else now
    groups: dict[str, Group] = {}
    newest: dict[str, Delivery] = {}
    for delivery in deliveries:
        failure = failure_of(delivery, grounds)
        known_as = fingerprint(failure)
        one = groups.get(known_as)
        if one is None:
            one = groups[known_as] = _new(known_as, failure)
        one.count += 1
        one.replayed += failure.seen_again > 0
        one.moved += failure.moved
        if failure.deaths > one.most_deaths:
            one.most_deaths = failure.deaths
        at = _died_at(failure, delivery, now)
        if known_as not in newest or (at is not None and (one.last_seen is None or at >= one.last_seen)):
            newest[known_as] = delivery
        if at is not None:
            _note_time(one, at, now)
    for known_as, delivery in newest.items():
        groups[known_as].example = document(_cut(delivery))
    return sorted(groups.values(), key=lambda one: (-one.count, one.id))


def _new(known_as: str, failure: Failure) -> Group:
    return Group(
        id=known_as,
        cause=cause(failure),
        dialect=failure.dialect,
        reason=failure.reason,
        queue=failure.queue,
        exchange=failure.exchange,
        routing_key=failure.routing_key,
        error_type=failure.error_type,
        frame=own_frame(failure.stack),
        arrivals=[0] * _CELLS,
    )


def _died_at(failure: Failure, delivery: Delivery, now: float) -> datetime | None:
    if failure.failed_at is not None:
        return failure.failed_at
    sent = as_datetime(delivery.properties.timestamp)
    return sent if sent is not None and sent.timestamp() <= now + _SKEW_S else None


def _note_time(one: Group, at: datetime, now: float) -> None:
    one.first_seen = at if one.first_seen is None else min(one.first_seen, at)
    one.last_seen = at if one.last_seen is None else max(one.last_seen, at)
    cell = _CELLS - 1 - int((now - at.timestamp()) // _CELL_S)
    if 0 <= cell < _CELLS:
        one.arrivals[cell] += 1


def _cut(delivery: Delivery) -> Delivery:
    if len(delivery.body) <= _EXAMPLE_BYTES:
        return delivery
    return msgspec.structs.replace(delivery, body=delivery.body[:_EXAMPLE_BYTES], wire_size=len(delivery.body))
