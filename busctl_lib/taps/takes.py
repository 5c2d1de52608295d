"""The taps that read the queue itself: streams, holding and consuming."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from busctl_lib.broker import MessageBroker, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, ConfigError, ConsumerTimedOut, GuardRefused
from busctl_lib.management import ManagementClient, settings_of
from busctl_lib.taps.budget import PeekBudget, Spending, peek_budget, spend
from busctl_lib.taps.buffers import Buffer
from busctl_lib.taps.plans import TapPlan
from busctl_lib.taps.taking import HOLD_MAX, consumer_timeout_ms
from busctl_lib.taps.tap import WATCH_S, Tap

PREFETCH = 1000
OFFSET_ARGUMENT = "x-stream-offset"
_FIRST_S = 0.5
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
            on_cancelled=lambda _reason: self._wake.set(),
            on_tick=self._tick,
        )

    def _receive(self, delivery: Delivery) -> None:
        """Pass a delivery on. Thread: I/O."""
        self._heard_at = delivery.received_at
        delivery.via = self.plan.way
        self.buffer.put(delivery)

    def _tick(self, now: float) -> None:
        """Time passes. Thread: I/O."""

    def _check(self, *, after_gap: bool) -> None:
        self._broker.declare_queue(self.queue, passive=True)

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


class HoldTap(TakingTap):
    """Takes what waits, shows it and gives all back in order at the end; gives way when a consumer comes.

    Effect: what is shown is invisible to others meanwhile and is marked redelivered afterwards; on a quorum queue it
    counts as a delivery in vain up to 4.2, and from 4.3 on where the link is lost meanwhile.
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
        self._held = self._waiting = 0
        self._unshown: list[Delivery] | None = []
        """What came first, until it is known of all that waited that it can be given back; then None."""
        self._patient_until: float | None = None
        self._stack = contextlib.ExitStack()
        self._spending: Spending | None = None
        self.budget: PeekBudget | None = None

    def _set_up(self) -> None:
        self._waiting = self._require_alone()
        plan = self.plan
        self.budget = peek_budget(self._management, plan.vhost, self.queue, folder=self._folder, sure=True)
        self.budget.require(accept_loss=plan.accept_loss, accept_delay=plan.accept_delay)
        look = spend(self.budget, accept_loss=plan.accept_loss, folder=self._folder)
        self._spending = self._stack.enter_context(look)
        super()._set_up()
        if self._counts and self._subscription is not None:
            self._subscription.once()

    def _require_alone(self) -> int:
        """How many messages wait, where nobody consumes; one who has just gone is counted for a moment longer."""
        deadline = time.monotonic() + _HOLD_WATCH_S
        while (found := self._broker.declare_queue(self.queue, passive=True)).consumer_count:
            if time.monotonic() > deadline:
                raise _consumer_came(self.queue)
            time.sleep(0.1)
        return found.message_count

    @property
    def _counts(self) -> bool:
        return self.budget is not None and self.budget.delivery_limit is not None

    def _receive(self, delivery: Delivery) -> None:
        self._held += 1
        if self._spending is not None:
            self._spending.saw(delivery)
            if self._spending.harmful is not None:
                self._unshown = []
                if self._subscription is not None:
                    self._subscription.abandon()
                self._wake.set()
                return
        if self._unshown is None:
            self._show(delivery)
            return
        self._unshown.append(delivery)
        if self._held >= min(self._waiting, self._prefetch):
            self._show_first()

    def _tick(self, now: float) -> None:
        self._patient_until = self._patient_until or now + _FIRST_S
        if self._unshown and now > self._patient_until:  # others took the rest
            self._show_first()

    def _show_first(self) -> None:
        first, self._unshown = self._unshown or (), None
        for delivery in first:
            self._show(delivery)

    def _show(self, delivery: Delivery) -> None:
        super()._receive(delivery)
        if self._held == self._prefetch == self.plan.take_limit:
            self._note("changed", f"{self._prefetch:,} messages are held, the most there can be: no more are shown")

    def _check(self, *, after_gap: bool) -> None:
        subscription, spending = self._subscription, self._spending
        if spending is not None and spending.harmful is not None:
            self._give_back()
            raise spending.harmful
        if subscription is not None and isinstance(subscription.lost, ConsumerTimedOut):
            self._give_back()
            raise self._timed_out(subscription.lost)
        if after_gap and self._counts:
            raise GuardRefused(
                "the link was lost, and with it what was held: it has gone back to the queue",
                hint="that counts as a delivery in vain of each; look again when the link is steady",
            )
        if after_gap:
            self._note("gap", "what was held has gone back with the link and comes again")
        if self._broker.declare_queue(self.queue, passive=True).consumer_count > 1:
            self._give_back()
            raise _consumer_came(self.queue)

    def _timed_out(self, lost: ConsumerTimedOut) -> ConsumerTimedOut:
        info = self._management.queue(self.plan.vhost, self.queue)
        limit_ms = consumer_timeout_ms(info, settings_of(self._management, info))
        of = f" of {limit_ms:,} ms" if limit_ms is not None else ""
        return ConsumerTimedOut(
            f"the consumer timeout{of} of {self.queue} ended the hold: what was held has gone back",
            hint="look for a shorter time",
            code=lost.code,
            text=lost.text,
            queue=self.queue,
            timeout_ms=limit_ms,
        )

    def _give_back(self) -> None:
        spending, self._spending = self._spending, None
        subscription, budget = self._subscription, self.budget
        by_name = self._end_subscription()
        if spending is None or budget is None or self.account is not None:
            self._stack.close()
            return
        spending.all_seen = self._held >= self._waiting
        if by_name:
            spending.gave_back()
        self._stack.close()
        if not self._held:
            self.account = f"nothing was taken from {self.queue}"
            return
        messages = f"{self._held:,} message{'s' * (self._held != 1)} of {self.queue}"
        if by_name:
            how = f"{'were' if self._held != 1 else 'was'} given back"
        else:
            closed = subscription is not None and subscription.lost is not None
            how = f"went back with {'the channel that the broker closed' if closed else 'the lost link'}"
        self.account = f"{messages} {how}, {spending.after.did(self._held, by_name=by_name)}"


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
