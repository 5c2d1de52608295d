"""The peek budget: how often a queue can still be looked at before looking costs messages.

A quorum queue counts how often a message was delivered without success (`x-delivery-count`), and drops or dead-letters
it when that passes the queue's delivery limit: on 3.10 where one is set, from 4.0 on 20 by itself. Run on 3.10.8, 4.0.5
and 4.3.6:

    what gives it back                                              | counts up to 4.2 | from 4.3 on
    nack, recover, the API's ack_requeue_true, a consumer timeout   | yes              | no
    reject, a closed channel, a lost link, a kill -9                | yes              | yes

So looking is written down before it happens, as one delivery more, in a file that the next run reads; where giving back
counts nothing that is taken back as soon as the broker is known to have heard of it::

    budget = peek_budget(management, vhost, queue)
    budget.require()                              # GuardRefused when no more than two are left
    with spend(budget) as spending:               # counted from here on, also if this process is killed
        spending.saw(delivery)                    # for each message that will be given back
        spending.gave_back()                      # when it is known that all went back by name

What is known before a message was seen, and what is done where it is not: `bounds`. A lost link is one delivery more of
all that was held: a look does not begin again by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused
from busctl_lib.management import ManagementClient, QueueInfo, settings_now
from busctl_lib.taps.bounds import bound_of
from busctl_lib.taps.looks import LooksFile
from busctl_lib.taps.looks import peek_folder as peek_folder
from busctl_lib.taps.retries import DelayedRetry, delayed_retry

RESERVE = 2
"""Failed deliveries that are left to the queue's own consumers, and to links that are lost."""
COUNT_HEADER = "x-delivery-count"
"""From 4.3 on there is `x-acquired-count` as well, which grows with every delivery and limits nothing."""
_DEFAULT_LIMIT = 20
_LIMIT = "delivery-limit"


class PeekBudget(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How often a queue can be looked at by taking messages and giving them back."""

    vhost: str
    queue: str
    type: str
    version: str
    """The broker's."""
    delivery_limit: int | None = None
    """How often a message may be delivered without success; None where that is not limited, or not counted."""
    used: int = 0
    """How often a message of it was delivered without success at most, as far as is known."""
    known: bool = False
    """Whether `used` was read off the messages; otherwise it is a bound by the broker's redeliveries."""
    retry: DelayedRetry | None = None
    """What the queue delays."""
    cluster: str = ""
    redelivered: int = 0
    """The broker's count of redeliveries, our own included that it does not know yet."""
    told: tuple[int, int] = (0, 0)
    """What the broker says: messages delivered, and redelivered."""
    trouble: str | None = None
    """Why it is not known how often it was looked at."""

    @property
    def counts(self) -> bool:
        """Whether its messages count failed deliveries."""
        return self.type == "quorum"

    @property
    def free(self) -> bool:
        """Whether what is given back by name counts nothing."""
        return not self.counts or release_of(self.version) >= (4, 3)

    @property
    def left(self) -> int | None:
        """How many failed deliveries are left before one costs a message; None is without end."""
        return None if self.delivery_limit is None else max(0, self.delivery_limit - self.used)

    @property
    def text(self) -> str:
        """Say it in words."""
        if self.left is None:
            return "peeks left: without end"
        what = "lost links" if self.free else "peeks"
        return f"{what} left: {self.left} of {self.delivery_limit}"

    @property
    def costs(self) -> str | None:
        """Say what a look does to the count of a message, before; None where nothing counts."""
        if not self.counts:
            return None
        if self.free:
            limit = f" ({self.text})" if self.left is not None else ""
            delayed = f", and delays it by {self.retry.text}" if self.retry and self.retry.delays_failed else ""
            return f"a look counts nothing, but a lost link as a failed delivery of all that is held{limit}{delayed}"
        limit = self.text if self.left is not None else "without a limit here"
        return f"a look counts as a failed delivery of all that is held ({limit})"

    def did(self, count: int, *, by_name: bool) -> str:
        """Say what giving messages back did to them: "marked redelivered", and what was counted.

        Args:
            count: How many there were.
            by_name: Whether they were given back by us; otherwise their channel or link was lost.
        """
        said = "marked redelivered"
        counts = self.counts and not (by_name and self.free)
        if counts:
            said += f", and {'each counts' if count != 1 else 'it counts'} one more failed delivery"
        if self.retry is not None and (self.retry.delays_returned if by_name else self.retry.delays_failed):
            said += f", and hidden for {self.retry.text} (delayed retry)"
        return f"{said}; {self.text}" if counts and self.left is not None else said

    def require(self, *, accept_loss: bool = False, accept_delay: bool = False) -> None:
        """Refuse to look where that would delay messages, or no more than `RESERVE` failed deliveries are left.

        Raises:
            GuardRefused: facts `queue`, `left`, `delivery_limit`; or as of `DelayedRetry.require`.
        """
        if self.retry is not None and not accept_delay:
            self.retry.require(self.queue)
        if self.left is None or accept_loss:
            return
        if self.trouble is not None:
            raise GuardRefused(
                self.trouble, hint="--accept-loss looks all the same and writes it anew", queue=self.queue
            )
        if self.left > RESERVE:
            return
        if self.delivery_limit is not None and self.delivery_limit <= RESERVE:
            why = f"its delivery limit is {self.delivery_limit}"
        elif self.known:
            why = f"its messages were delivered without success up to {self.used} times"
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
    management: ManagementClient,
    vhost: str,
    queue: str,
    *,
    folder: Path | None = None,
    info: QueueInfo | None = None,
    sure: bool = False,
) -> PeekBudget:
    """Find out how often a queue can still be looked at.

    Args:
        management: Where the queue's type, arguments and policies are read.
        vhost: Where the queue is.
        queue: Its name.
        folder: Where looks are written down; `peek_folder()` by default.
        info: The queue, if it was read a moment ago.
        sure: A look will follow: wait for the broker's counts, which are some seconds late, where nothing else is known
            and so few failed deliveries are allowed that all may have happened meanwhile.

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
    if not budget.counts:
        return budget
    release = release_of(budget.version)
    # What the broker says counts is some seconds old, and the operators' policies are not for everybody to read.
    settings = settings_now(management, info), info.effective_policy_definition or {}
    budget.retry = delayed_retry(info, settings, release)
    budget.delivery_limit = _limit(info, settings, release)
    if budget.delivery_limit is None:
        return budget
    file, limit = _file_of(budget, folder), budget.delivery_limit
    bound = bound_of(management, info, file, limit=limit, free=budget.free, sure=sure)
    budget.used, budget.known, budget.trouble = bound.used, bound.known, bound.trouble
    budget.redelivered, budget.told = bound.redelivered, bound.told
    return budget


class Spending:
    """One look under way.

    Args:
        budget: Of the queue.
        file: Where it is counted; None where nothing counts.
        accept_loss: Go on where a message may be lost.

    Thread: `saw` and `again` from one, the rest when that has ended.
    """

    def __init__(self, budget: PeekBudget, file: LooksFile | None = None, *, accept_loss: bool = False) -> None:
        self.budget = budget
        self.seen = 0
        """How many messages were taken."""
        self.all_seen = False
        """Set it when these were all that the queue had: what was known of others is forgotten then."""
        self.near: GuardRefused | None = None
        """Set when a message came that is near the limit, which nobody knew: taking it again might be the last time."""
        self._file, self._accept_loss = file, accept_loss
        self._highest = 0
        self._redelivered = 0
        self._lost = 0
        self._ended = False

    def saw(self, delivery: Delivery) -> None:
        """Count a message that was taken and will be given back."""
        self.seen += 1
        self._redelivered += bool(delivery.redelivered)
        count, limit = delivered_in_vain(delivery), self.budget.delivery_limit
        self._highest = max(self._highest, count)
        if limit is not None and count >= limit - RESERVE and self.near is None and not self._accept_loss:
            self.near = GuardRefused(
                f"stopped: a message of {self.budget.queue} was delivered without success {count} times, and at "
                f"{limit} the queue drops or dead-letters it",
                hint="raise the queue's delivery limit by a policy, or --accept-loss",
                queue=self.budget.queue,
                left=limit - count,
                delivery_limit=limit,
            )

    @property
    def harmful(self) -> GuardRefused | None:
        """Why all must be given back at once: `near`, where giving back by name still costs nothing."""
        return self.near if self.budget.free else None

    def again(self) -> None:
        """All that was held went back with a lost link, and is about to be taken once more. Raises BusError."""
        self._lost += 1
        self._write()

    def gave_back(self) -> None:
        """All that was held is known to have gone back by name, and no more comes."""
        self._ended = True
        with contextlib.suppress(BusError):  # then it stays counted
            self._write()

    @property
    def after(self) -> PeekBudget:
        """What is left of the budget after this look."""
        open_end = not self._ended
        seen = self._highest + (open_end or not self.budget.free) if self.seen else 0
        others = 0 if self.all_seen and self._ended else self.budget.used + self._lost + open_end
        again = self.budget.redelivered + self._redelivered
        return msgspec.structs.replace(self.budget, used=max(seen, others), redelivered=again, known=True, trouble=None)

    def _write(self) -> None:
        if self._file is not None:
            after = self.after
            self._file.write(after.used, after.redelivered, after.told)


@contextlib.contextmanager
def spend(budget: PeekBudget, *, accept_loss: bool = False, folder: Path | None = None) -> Iterator[Spending]:
    """Count a look, before and whatever becomes of it; of two looks of one machine at one queue one is refused.

    Give messages back by `Subscription.cancel`, which knows how and whether it was done, and say so.

    Raises:
        GuardRefused: another look of this machine at the queue is under way.
        BusError: the file cannot be written; nothing was looked at.

    Effect: a file in `folder`.
    """
    if budget.delivery_limit is None:
        yield Spending(budget, accept_loss=accept_loss)
        return
    file = _file_of(budget, folder)
    file.lock()
    try:
        file.write(budget.used + 1, budget.redelivered, budget.told)
        yield Spending(budget, file, accept_loss=accept_loss)
    finally:
        file.close()


def delivered_in_vain(delivery: Delivery) -> int:
    """Read off a message how often it was delivered without success before it came to us."""
    count = delivery.headers.get(COUNT_HEADER)
    return count if isinstance(count, int) else 0


def release_of(version: str) -> tuple[int, ...]:
    """Major and minor number of a version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _file_of(budget: PeekBudget, folder: Path | None) -> LooksFile:
    return LooksFile(folder, budget.cluster, budget.vhost, budget.queue)


def _limit(info: QueueInfo, settings: Sequence[dict[str, Any]], release: tuple[int, ...]) -> int | None:
    """The delivery limit that counts: the smallest of those that are set; less than 0 is none, from 4.0 on."""
    given = [(info.arguments or {}).get(f"x-{_LIMIT}"), *(each.get(_LIMIT) for each in settings)]
    numbers = [limit for limit in given if isinstance(limit, int)]
    if release < (4, 0):  # where -1 means "never": 3.10.8 drops a message that was given back once
        return min((max(limit, 0) for limit in numbers), default=None)
    told = info.delivery_limit  # it is some seconds old
    limits = [limit for limit in [*numbers, told] if isinstance(limit, int) and limit >= 0]
    if limits:
        return min(limits)
    return None if numbers or isinstance(told, str) else _DEFAULT_LIMIT
