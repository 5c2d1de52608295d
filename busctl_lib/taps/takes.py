"""The taps that read the queue itself: streams, holding and consuming."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, ConfigError, GuardRefused
from busctl_lib.management import ManagementClient
from busctl_lib.taps.budget import PeekBudget, Spending, peek_budget, spend
from busctl_lib.taps.buffers import Buffer
from busctl_lib.taps.plans import TapPlan
from busctl_lib.taps.taking import HOLD_MAX
from busctl_lib.taps.tap import WATCH_S, Tap

PREFETCH = 1000
OFFSET_ARGUMENT = "x-stream-offset"
_HOLD_WATCH_S = 1.0
"""How long a consumer that comes may have to share with us."""


class TakingTap(Tap):
    """Base of the taps with a consumer on the queue itself. Its prefetch bounds the buffer: nothing is dropped."""

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
        self._subscription = self._broker.subscribe(
            self.queue,
            self._receive,
            prefetch=self._prefetch,
            arguments=self._arguments,
            stream=self.plan.way == "stream",
            exact=self.exact,
        )

    def _receive(self, delivery: Delivery) -> None:
        """Pass a delivery on. Thread: I/O."""
        self._heard_at = delivery.received_at
        delivery.via = self.plan.way
        self.buffer.put(delivery)

    def _check(self, *, after_gap: bool) -> None:
        self._broker.declare_queue(self.queue, passive=True)

    def _give_back(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        with contextlib.suppress(BusError):  # then it goes back with the connection
            subscription.pause()
            for delivery in self._unshown():
                subscription.leave(delivery)
            subscription.cancel()

    def _unshown(self) -> Sequence[Delivery]:
        """What was taken and must go back."""
        return self.buffer.rest()


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


class HoldTap(TakingTap):
    """Takes what waits, shows it and gives all back in order at the end; gives way when a consumer comes.

    Effect: what is shown is invisible to others meanwhile, is marked redelivered afterwards, and on a quorum queue
    counts as one more delivery.
    """

    def __init__(
        self,
        plan: TapPlan,
        broker: MessageBroker,
        management: ManagementClient,
        *,
        limit: int | None = None,
        watch_s: float = WATCH_S,
        folder: Path | None = None,
    ) -> None:
        prefetch = min(limit or HOLD_MAX, plan.take_limit or HOLD_MAX)
        super().__init__(plan, broker, management, prefetch=prefetch, watch_s=min(watch_s, _HOLD_WATCH_S))
        self._folder = folder
        self._held: list[Delivery] = []
        self._stack = contextlib.ExitStack()
        self._spending: Spending | None = None
        self.budget: PeekBudget | None = None

    def _set_up(self) -> None:
        found = self._broker.declare_queue(self.queue, passive=True)
        if found.consumer_count:
            raise _consumer_came(self.queue)
        self.budget = peek_budget(self._management, self.plan.vhost, self.queue, folder=self._folder)
        self._spending = self._stack.enter_context(spend(self.budget, folder=self._folder))
        super()._set_up()
        if self._counts and self._subscription is not None:
            self._subscription.once()

    @property
    def _counts(self) -> bool:
        return self.budget is not None and self.budget.delivery_limit is not None

    def _receive(self, delivery: Delivery) -> None:
        if self._spending is not None:
            self._spending.saw(delivery)
        self._held.append(delivery)
        super()._receive(delivery)
        if len(self._held) == self._prefetch == self.plan.take_limit:
            self._note("changed", f"{self._prefetch:,} messages are held, the most there can be: no more are shown")

    def _check(self, *, after_gap: bool) -> None:
        if after_gap and self._counts:
            raise GuardRefused(
                "the link was lost, and with it what was held: it has gone back to the queue",
                hint="holding again would count as one more delivery",
            )
        if after_gap:
            self._note("gap", "what was held has gone back with the link and comes again")
        if self._broker.declare_queue(self.queue, passive=True).consumer_count > 1:
            self._give_back()
            raise _consumer_came(self.queue)

    def _unshown(self) -> Sequence[Delivery]:
        return self._held

    def _give_back(self) -> None:
        before = len(self._held)
        super()._give_back()
        spending, self._spending = self._spending, None
        self._stack.close()
        if spending is None or self.account is not None:
            return
        again = f"; {spending.after.text}" if self._counts else ""
        if not before and not spending.seen:
            self.account = f"nothing was taken from {self.queue}"
            return
        self.account = f"{before:,} messages of {self.queue} were given back, marked redelivered{again}"


def _consumer_came(queue: str) -> GuardRefused:
    return GuardRefused(
        f"{queue} has a consumer: holding messages would take them from it", hint="what was held is given back"
    )


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

    def _give_back(self) -> None:
        if self._subscription is not None:
            for delivery in self._late:
                self._subscription.ack(delivery)
        super()._give_back()
