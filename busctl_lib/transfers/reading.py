"""The first look at a source: what may be read of it, and what the plan says of it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from busctl_lib.amqp.hands import Look
from busctl_lib.amqp.movers import Mode, Mover
from busctl_lib.broker import MessageBroker, QueueDeclared
from busctl_lib.deadletters.finding import LOCK_PREFIX
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused, ResourceLocked, about
from busctl_lib.journal import identity
from busctl_lib.management import QueueInfo
from busctl_lib.taps.taking import require_lasting
from busctl_lib.transfers.lull import Lull
from busctl_lib.transfers.plans import Sums
from busctl_lib.transfers.requests import Request
from busctl_lib.transfers.routes import refuses_when_full
from busctl_lib.transfers.selection import Selection
from busctl_lib.transfers.sorter import QUORUM_HELD, WINDOW

_LOCK_TRIES_S = 3.0
_IDLE_S = 0.25


def lock_name(vhost: str, queue: str) -> str:
    """The exclusive queue whose owner may move messages out of a queue."""
    return LOCK_PREFIX + hashlib.sha256(f"{vhost}\0{queue}".encode()).hexdigest()[:24]


def open_mover(broker: MessageBroker, queue: str, mode: Mode, look: Look | None = None) -> Mover:
    """Take a queue into the hand, and keep other operations away from it.

    Args:
        broker: To the vhost.
        queue: Its name.
        mode: How it is settled.
        look: Counts what is taken.

    Raises:
        GuardRefused: another operation is at it. NotFound: no such queue.
    """
    deadline = time.monotonic() + _LOCK_TRIES_S
    while True:
        link = broker.links.another("transfer")
        mover = Mover(link, queue, lock=lock_name(broker.virtual_host, queue), mode=mode, window=WINDOW, look=look)
        try:
            with about(queue):
                return mover.open(broker.answer_timeout_s)
        except ResourceLocked as error:
            mover.abandon()
            if time.monotonic() > deadline:
                raise GuardRefused(
                    f"another operation is at {queue}, from here or elsewhere",
                    hint="`busctl ops` shows those of this machine",
                ) from error
            time.sleep(0.2)  # a process that was killed a moment ago has it until the broker notices
        except BaseException:
            mover.abandon()
            raise


def require_readable(info: QueueInfo, found: QueueDeclared, request: Request) -> int:
    """Refuse what a queue cannot give back; returns how many messages wait. Raises GuardRefused."""
    waiting = found.message_count
    require_lasting(info, found.consumer_count)
    _require_given_back(info, waiting, request)
    return waiting


def _require_given_back(info: QueueInfo, waiting: int, request: Request) -> None:
    if info.type == "stream":
        raise GuardRefused(f"{info.name} is a stream: its messages cannot be taken out of it")
    if info.type == "quorum" and request.takes and refuses_when_full(info):
        _require_told(info.name, request)
    if info.type != "quorum" or waiting <= QUORUM_HELD:
        return
    if not request.takes or (request.selects and not request.rewrite):
        hint = "--rewrite writes what does not match anew behind the others" if request.takes else None
        raise GuardRefused(
            f"{info.name} is a quorum queue of {waiting:,} messages, and what stays would have to be held: no more "
            f"than {QUORUM_HELD:,} at once",
            hint=hint,
        )
    if request.watch_s is not None:
        raise GuardRefused(
            f"{info.name} is a quorum queue of {waiting:,} messages: what comes back lies behind them, where it cannot "
            "be seen",
            hint="replay without --watch, and look at `busctl dead` afterwards",
        )


def _require_told(name: str, request: Request) -> None:
    """Refuse what might have to be put back into a quorum queue that refuses when full: no transaction tells of it."""
    discards = request.kind == "discard" or request.discard
    if request.rewrite if discards else not request.fast:
        raise GuardRefused(
            f"{name} is a quorum queue that refuses messages when it is full, and no transaction would tell",
            hint="leave out --rewrite" if discards else "--fast waits for the confirm of each message instead",
        )


class Reading:
    """Reads a source for a plan; what a quorum queue gave stays in the hand, so that it is read once.

    Args:
        mover: Open, on the source.
        sums: Takes what is selected.
        selection: Says what is.
        waiting: Messages that were ready before.
        again: Whether the source can be read again for nothing (classic).
        remembers: Whether to keep what was read, to hold a plan against it.
    """

    def __init__(
        self,
        mover: Mover,
        sums: Sums,
        selection: Selection,
        waiting: int,
        *,
        limit: int | None,
        again: bool,
        remembers: bool,
    ) -> None:
        self.seen: Counter[bytes] = Counter()
        """All that was read, by identity, if it `remembers`."""
        self.most = waiting if again else min(waiting, QUORUM_HELD)
        self._mover, self._sums, self._selection = mover, sums, selection
        self._waiting, self._limit, self._again = waiting, limit, again
        self._remembers = remembers

    def run(self) -> Iterator[int]:
        """Read; yields how many were read so far."""
        mover, sums = self._mover, self._sums
        kept: list[Delivery] = []
        epoch, of_window, lull = mover.epoch, 0, Lull(mover)
        while sums.examined < self.most and not self._is_enough:
            if mover.failure is not None:
                raise mover.failure
            if mover.epoch != epoch:
                raise BusError("the link was lost while the queue was read: nothing was done", hint="try again")
            if of_window >= WINDOW // 2 and self._again:
                mover.renew()
                of_window = 0
            found = mover.take(min(500, self.most - sums.examined), _IDLE_S, epoch)
            if found:
                lull.over()
            elif mover.epoch == epoch and lull.is_the_end():
                break
            of_window += len(found)
            self._sum_up(found)
            kept += [] if self._again else found
            yield sums.examined
        if self._again:
            mover.restart()
        else:
            mover.push_back(kept)

    @property
    def _is_enough(self) -> bool:
        return self._limit is not None and self._sums.selected >= self._limit

    @property
    def whole(self) -> bool:
        """Whether the set is known message by message; else there are more than a quorum queue gives at once."""
        return self._again or self._is_enough or self._waiting <= QUORUM_HELD

    def _sum_up(self, found: Sequence[Delivery]) -> None:
        for delivery, meant in zip(found, self._selection.of(found), strict=True):
            known_as = identity(delivery)
            if self._remembers:
                self.seen[known_as] += 1
            self._sums.examined += 1
            if meant and not self._is_enough:
                self._sums.add(delivery, known_as)
