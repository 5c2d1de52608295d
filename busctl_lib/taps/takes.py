"""The taps with a consumer on the queue itself: reading streams, and consuming by name."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, ConfigError, ConsumerTimedOut, GuardRefused
from busctl_lib.management import ManagementClient, restarted_since
from busctl_lib.taps.budget import Spending, peek_budget
from busctl_lib.taps.buffers import Buffer
from busctl_lib.taps.foundations import Changes
from busctl_lib.taps.plans import TapPlan
from busctl_lib.taps.tap import WATCH_S, Tap

PREFETCH = 1000
OFFSET_ARGUMENT = "x-stream-offset"
_TIMEOUT_MS = 1_800_000
"""The broker's consumer timeout where none is set."""
_SHARE = 0.9
"""We count from the delivery on by our own clock."""


class TakingTap(Tap):
    """Base of the taps with a consumer on the queue itself. Its prefetch bounds the buffer: nothing is dropped.

    The broker ends a consumer with its queue, so one that goes on is on the same queue; after any loss of it or of the
    link, what the plan was built on is looked at again before another message is taken.
    """

    _by_settings = False
    """Whether the plan is no longer good when the queue's policies set something else."""

    def __init__(
        self,
        plan: TapPlan,
        broker: MessageBroker,
        management: ManagementClient,
        *,
        prefetch: int,
        watch_s: float = WATCH_S,
    ) -> None:
        super().__init__(plan, broker, management, watch_s=watch_s)
        assert plan.queue is not None
        self.queue = plan.queue
        self._prefetch = prefetch
        self._arguments: dict[str, Any] | None = None
        self.buffer = Buffer(sys.maxsize, sys.maxsize)
        self._subscription: Subscription | None = None

    def _set_up(self) -> None:
        self._require_as_planned()
        self._subscribe()

    def _require_as_planned(self) -> None:
        """Take nothing from another queue than the plan is for. Raises GuardRefused."""
        changes = self._changes()
        if changes.itself or changes.perhaps or (changes.settings and self._by_settings):
            raise self._another(changes)
        self._accept()

    def _subscribe(self) -> None:
        self._subscription = self._broker.subscribe(
            self.queue,
            self._receive,
            prefetch=self._prefetch,
            arguments=self._arguments,
            stream=self.plan.way == "stream",
            exact=self.exact,
            on_cancelled=lambda _reason: self._wake.set(),
            on_tick=self._tick,
        )
        self._subscription.once()  # what it was planned for is looked at before more is taken

    def _receive(self, delivery: Delivery) -> None:
        """Pass a delivery on. Thread: I/O."""
        self._heard_at = delivery.received_at
        delivery.via = self.plan.way
        self.buffer.put(delivery)

    def _tick(self, now: float) -> None:
        """Time passes. Thread: I/O."""

    def _check(self, *, after_gap: bool) -> None:
        lost = self._subscription.lost if self._subscription is not None else None
        changes = self._changes()
        another = bool(changes.itself or (changes.settings and self._by_settings))
        if changes.perhaps and (lost is not None or after_gap):  # else our consumer would be gone
            another |= lost is not None or not restarted_since(self._management, self._gap_began)
        if another:
            raise self._another(changes)
        if lost is not None:
            raise self._ended_by(lost)
        if changes.settings:
            self._note("changed", f"{self.queue} has changed: {changes.text}")
        self._accept()
        if after_gap:
            self._again()

    def _another(self, changes: Changes) -> GuardRefused:
        return GuardRefused(f"{self.queue} has changed: {changes.text}", hint="begin anew, if that is what you mean")

    def _ended_by(self, lost: BusError) -> BusError:
        """What to say when the broker ended the consumer, and a queue of that name is there as it was."""
        if self._is_timeout(lost):
            return lost
        timeout = ", or its consumer timeout passed" if isinstance(lost, ConsumerTimedOut) and self._is_quorum else ""
        return GuardRefused(
            f"the broker ended the consumer of {self.queue}: it was deleted and declared again, or its node went away"
            f"{timeout}",
            hint="begin anew, if that is what you mean",
        )

    def _is_timeout(self, lost: BusError | None) -> bool:
        """Whether it was surely the consumer timeout."""
        if not isinstance(lost, ConsumerTimedOut):
            return False
        limit_ms, held_s = self.plan.built_on.consumer_timeout_ms, lost.facts.get("held_s")
        if held_s is None:  # up to 4.2 the broker says so
            return True
        return self._is_quorum and held_s * 1000 >= _SHARE * (_TIMEOUT_MS if limit_ms is None else limit_ms)

    @property
    def _is_quorum(self) -> bool:
        return self.plan.built_on.queue.get("type") == "quorum"

    def _again(self) -> None:
        """Take up again after a lost link. Raises BusError."""
        if self._subscription is not None:
            self._subscription.again()

    def _give_back(self) -> None:
        self._end_subscription()

    def _end_subscription(self) -> bool:
        """Give back what is open; whether that is known to have been done by us, or it went back by itself before."""
        subscription, self._subscription = self._subscription, None
        try:
            return subscription is not None and subscription.cancel()
        except BusError:  # then it goes back with the connection
            return False


class StreamTap(TakingTap):
    """Reads a stream from an offset on, no faster than the reader takes; after a lost link it goes on where it was."""

    def __init__(
        self, plan: TapPlan, broker: MessageBroker, management: ManagementClient, *, watch_s: float = WATCH_S
    ) -> None:
        super().__init__(plan, broker, management, prefetch=PREFETCH, watch_s=watch_s)
        self._arguments = {OFFSET_ARGUMENT: _offset(plan.offset)}

    def _receive(self, delivery: Delivery) -> None:
        offset = delivery.headers.get(OFFSET_ARGUMENT)
        assert self._arguments is not None
        if isinstance(offset, int):  # read anew when the subscription starts again
            self._arguments[OFFSET_ARGUMENT] = offset + 1
            self._gap_words = "reading goes on where it was"
        delivery.redelivered = None
        super()._receive(delivery)

    def taken(self, delivery: Delivery) -> None:
        """Ask for more."""
        if self._subscription is not None:
            self._subscription.ack(delivery)  # a stream forgets nothing by it


def _offset(given: str | int | None) -> str | int | datetime:
    if isinstance(given, int):
        return given
    if given in (None, "first", "last", "next"):
        return given or "next"
    try:
        return datetime.fromisoformat(str(given))
    except ValueError:
        raise ConfigError(f"{given!r} is no place in a stream", hint="first, last, next, a number, or a time") from None


class ConsumeTap(TakingTap):
    """Takes messages away: each is acknowledged when the reader says that it is done with it.

    Args:
        limit: Take exactly so many; without it what was fetched ahead and not shown is given back at the end.
    """

    def __init__(
        self,
        plan: TapPlan,
        broker: MessageBroker,
        management: ManagementClient,
        *,
        limit: int | None = None,
        watch_s: float = WATCH_S,
    ) -> None:
        super().__init__(plan, broker, management, prefetch=min(PREFETCH, limit or PREFETCH), watch_s=watch_s)
        self._early = None if limit is None else limit - self._prefetch
        """How many may be acknowledged before the end, so that the broker never hands out more than asked."""
        self._late: deque[Delivery] = deque()
        self._spending: Spending | None = None

    def _set_up(self) -> None:
        budget = peek_budget(self._management, self.plan.vhost, self.queue)
        self._spending = Spending(budget, accept_loss=self.plan.accept_loss)
        super()._set_up()

    def _receive(self, delivery: Delivery) -> None:
        super()._receive(delivery)
        if self._spending is not None:
            self._spending.saw(delivery)
            if self._spending.near is not None:  # lost links may have taken what was fetched ahead so far
                self._wake.set()

    def _check(self, *, after_gap: bool) -> None:
        if self._spending is not None and self._spending.near is not None:
            self._give_back()
            raise self._spending.near
        super()._check(after_gap=after_gap)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge what was written out."""
        subscription = self._subscription
        if subscription is None:
            return
        for delivery in deliveries:
            if self._early is None:
                subscription.ack(delivery)
            elif self._early > 0:
                self._early -= 1
                subscription.ack(delivery)
            else:
                self._late.append(delivery)

    def _again(self) -> None:
        self.buffer.withdraw(0.0)  # it has gone back, and comes again
        super()._again()

    def _give_back(self) -> None:
        if self._subscription is not None:
            for delivery in self._late:
                self._subscription.ack(delivery)
        super()._give_back()
