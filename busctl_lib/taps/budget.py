"""The peek budget: how often a queue can still be looked at before looking costs messages.

A quorum queue counts how often a message was given back, and drops or dead-letters it when that passes the queue's
delivery limit: on 3.10 where a limit is set, on 4.0 to 4.2 always (20 by default), from 4.3 on only for a consumer that
goes down. So looking is counted before it happens, in a file that the next run reads::

    budget = peek_budget(management, vhost, queue)
    budget.require()                              # GuardRefused when no more than two looks are left
    with spend(budget) as spending:               # counted from here on, also if this process is killed
        spending.saw(delivery)                    # for each message that will be given back

What others did is known by the counts that the messages themselves carry, once they were seen, and before that by the
broker's count of redeliveries: an upper bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import platformdirs

from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused
from busctl_lib.management import ManagementClient, QueueInfo

RESERVE = 2
"""Looks that are left to the queue's own consumers."""
COUNT_HEADERS = ("x-delivery-count", "x-acquired-count")
_DEFAULT_LIMIT = 20
_LIMIT_ARGUMENT, _LIMIT_POLICY = "x-delivery-limit", "delivery-limit"
_APPLIES = ("all", "queues", "quorum_queues")


class PeekBudget(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How often a queue can be looked at by taking messages and giving them back."""

    vhost: str
    queue: str
    type: str
    version: str
    """The broker's."""
    delivery_limit: int | None = None
    """How often a message may be given back; None where that is not limited, or not counted."""
    used: int = 0
    """How often a message of it was given back at most, as far as is known."""
    known: bool = False
    """Whether `used` was read off the messages; otherwise it is a bound by the broker's redeliveries."""
    cluster: str = ""
    redelivered: int = 0
    """The broker's count of redeliveries, our own included that it does not know yet."""

    @property
    def left(self) -> int | None:
        """How many looks are left before one costs a message; None is without end."""
        return None if self.delivery_limit is None else max(0, self.delivery_limit - self.used)

    @property
    def text(self) -> str:
        """Say it in words."""
        if self.left is None:
            return "peeks left: without end"
        return f"peeks left: {self.left} of {self.delivery_limit}"

    def require(self, *, accept_loss: bool = False) -> None:
        """Refuse to look when no more than `RESERVE` looks are left.

        Raises:
            GuardRefused: facts `queue`, `left`, `delivery_limit`.
        """
        if self.left is None or self.left > RESERVE or accept_loss:
            return
        if self.known:
            why = f"its messages were given back up to {self.used} times"
        else:
            why = f"the broker counts {self.redelivered} redeliveries, so a message may have been given back so often"
        raise GuardRefused(
            f"{self.queue} has {self.left} looks left: {why}, and at {self.delivery_limit} the queue drops or "
            "dead-letters a message",
            hint="--accept-loss looks all the same",
            queue=self.queue,
            left=self.left,
            delivery_limit=self.delivery_limit,
        )


def peek_budget(
    management: ManagementClient, vhost: str, queue: str, *, folder: Path | None = None, info: QueueInfo | None = None
) -> PeekBudget:
    """Find out how often a queue can still be looked at.

    Args:
        management: Where the queue's type, arguments and policies are read.
        vhost: Where the queue is.
        queue: Its name.
        folder: Where looks are written down; `peek_folder()` by default.
        info: The queue, if it was read a moment ago.

    Raises:
        NotFound: no such queue.
    """
    info = info or management.queue(vhost, queue)
    overview = management.overview()
    budget = PeekBudget(
        vhost=vhost,
        queue=queue,
        type=info.type or "classic",
        version=overview.rabbitmq_version or "0",
        cluster=overview.cluster_name or "",
    )
    if budget.type != "quorum":
        return budget
    budget.delivery_limit = _limit(management, info, _release(budget.version))
    if budget.delivery_limit is None:
        return budget
    stats = info.message_stats
    now = (stats.redeliver if stats is not None else None) or 0
    delivered = (stats.deliver_get if stats is not None else None) or 0
    memory = _Memory.read(_path(folder or peek_folder(), budget))
    if memory is not None:
        budget.known = True
        budget.used = memory.count + max(0, now - memory.redelivered)
        budget.redelivered = max(now, memory.redelivered)
    else:
        budget.redelivered = now
        budget.used = now + 1 if now else min(1, delivered)
    return budget


class Spending:
    """One look under way."""

    def __init__(self, budget: PeekBudget) -> None:
        self.budget = budget
        self.seen = 0
        """How many messages were taken."""
        self.all_seen = False
        """Set it when these were all that the queue had: what was known of others is forgotten then."""
        self._highest = 0
        self._again = 0

    def saw(self, delivery: Delivery) -> None:
        """Count a message that was taken and will be given back."""
        self.seen += 1
        self._again += bool(delivery.redelivered)
        self._highest = max(self._highest, given_back_before(delivery) + 1)

    @property
    def after(self) -> PeekBudget:
        """What is left of the budget after this look."""
        used = self._highest if self.all_seen else max(self._highest, self.budget.used)
        again = self.budget.redelivered + self._again
        return msgspec.structs.replace(self.budget, used=used, redelivered=again, known=True)


@contextlib.contextmanager
def spend(budget: PeekBudget, *, folder: Path | None = None) -> Iterator[Spending]:
    """Count a look, before and whatever becomes of it; looks of one machine at one queue wait for each other.

    Give messages of a quorum queue back by `Subscription.pause`, `leave` each, then `cancel`: any other way changes
    their order.

    Raises:
        GuardRefused: another look of this machine at the queue is under way.
        BusError: the file cannot be written; nothing was looked at.

    Effect: a file in `folder`.
    """
    spending = Spending(budget)
    if budget.delivery_limit is None:
        yield spending
        return
    memory = _Memory.lock(_path(folder or peek_folder(), budget), budget)
    try:
        memory.write(budget.used + 1, budget.redelivered)
        yield spending
        after = spending.after
        memory.write(after.used, after.redelivered)
    finally:
        memory.close()


def given_back_before(delivery: Delivery) -> int:
    """Read off a message how often it was given back before it came to us."""
    counts = [delivery.headers.get(name) for name in COUNT_HEADERS]
    return max((count for count in counts if isinstance(count, int)), default=0)


def peek_folder() -> Path:
    """Where the looks of this user are counted."""
    return platformdirs.user_state_path("busctl") / "peeks"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _limit(management: ManagementClient, info: QueueInfo, release: tuple[int, ...]) -> int | None:
    if release >= (4, 3):
        return None
    given = [(info.arguments or {}).get(_LIMIT_ARGUMENT), info.delivery_limit]
    if info.effective_policy_definition is None:  # a queue that is new to the statistics
        given += _by_policies(management, info)
    else:
        given.append(info.effective_policy_definition.get(_LIMIT_POLICY))
    numbers = [limit for limit in given if isinstance(limit, int)]
    if release < (4, 0):  # where -1 means "never", not yet "without end": 3.10.8 drops a message given back once
        numbers = [max(limit, 0) for limit in numbers]
    limits = [limit for limit in numbers if limit >= 0]
    if limits:
        return min(limits)
    return _DEFAULT_LIMIT if release >= (4, 0) and not numbers else None


def _by_policies(management: ManagementClient, info: QueueInfo) -> list[Any]:
    """All limits that policies may set on a queue; which one counts is for the broker to say, later."""
    found: list[Any] = []
    lists = [management.policies(info.vhost)]
    with contextlib.suppress(BusError):  # seen by administrators only
        lists.append(management.operator_policies(info.vhost))
    for policy in [policy for policies in lists for policy in policies]:
        with contextlib.suppress(re.error):
            if policy.apply_to in _APPLIES and re.search(policy.pattern or "", info.name):
                found.append((policy.definition or {}).get(_LIMIT_POLICY))
    return found


class _Written(msgspec.Struct):
    """What a file says. The names are for a person who finds it."""

    cluster: str
    vhost: str
    queue: str
    count: int
    redelivered: int


class _Memory:
    """The file of one queue; locked while somebody looks."""

    def __init__(self, handle: BinaryIO, budget: PeekBudget) -> None:
        self._handle = handle
        self._budget = budget

    @staticmethod
    def read(path: Path) -> _Written | None:
        """Read what was written down last; None where there is nothing."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Written)
        except (OSError, msgspec.MsgspecError):
            return None

    @classmethod
    def lock(cls, path: Path, budget: PeekBudget) -> _Memory:
        """Open the file for this process alone."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        except OSError as error:
            raise BusError(
                f"looks at {budget.queue} cannot be counted, and uncounted ones may cost messages: "
                f"{path.parent} cannot be written: {error.strerror}",
                hint="make that folder writable",
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise GuardRefused(
                f"another look at {budget.queue} is under way on this machine",
                hint="try again when it has ended",
            ) from None
        return cls(handle, budget)

    def write(self, count: int, redelivered: int) -> None:
        """Write it down, safely enough for a kill of this process."""
        budget = self._budget
        text = msgspec.json.encode(_Written(budget.cluster, budget.vhost, budget.queue, count, redelivered))
        self._handle.seek(0)
        self._handle.write(text)
        self._handle.truncate()
        self._handle.flush()

    def close(self) -> None:
        """Give up the lock."""
        self._handle.close()


def _path(folder: Path, budget: PeekBudget) -> Path:
    key = "\0".join((budget.cluster, budget.vhost, budget.queue))
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
