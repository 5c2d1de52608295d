"""The tap that takes messages for a while and gives them back."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, ConsumerTimedOut, GuardRefused, NotFound
from busctl_lib.management import ManagementClient
from busctl_lib.taps.budget import PeekBudget, Spending, peek_budget, spend
from busctl_lib.taps.foundations import Changes
from busctl_lib.taps.plans import TapPlan
from busctl_lib.taps.takes import TakingTap
from busctl_lib.taps.taking import HOLD_MAX
from busctl_lib.taps.tap import WATCH_S

_FIRST_S = 0.5
_HOLD_WATCH_S = 1.0
"""How long a consumer that comes may have to share with us."""


class HoldTap(TakingTap):
    """Takes what waits, shows it and gives all back in order at the end; gives way when a consumer comes.

    Effect: what is shown is invisible to others meanwhile and is marked redelivered afterwards; on a quorum queue it
    counts as a failed delivery up to 4.2, and from 4.3 on where the link is lost meanwhile.
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
        self._by_settings = True
        self._held = self._waiting = 0
        self._unshown: list[Delivery] | None = []
        """What came first, until it is known of all that waited that it can be given back; then None."""
        self._patient_until: float | None = None
        self._stack = contextlib.ExitStack()
        self._spending: Spending | None = None
        self.budget: PeekBudget | None = None

    def _set_up(self) -> None:
        self._require_as_planned()
        self._waiting = self._require_alone()
        plan = self.plan
        self.budget = peek_budget(self._management, plan.vhost, self.queue, folder=self._folder, sure=True)
        self.budget.require(accept_loss=plan.accept_loss, accept_delay=plan.accept_delay)
        look = spend(self.budget, accept_loss=plan.accept_loss, folder=self._folder)
        self._spending = self._stack.enter_context(look)
        self._subscribe()

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
        spending = self._spending
        if spending is not None and spending.harmful is not None:
            self._give_back()
            raise spending.harmful
        super()._check(after_gap=after_gap)
        if self._broker.declare_queue(self.queue, passive=True).consumer_count > 1:
            self._give_back()
            raise _consumer_came(self.queue)

    def _again(self) -> None:
        if self._counts:
            raise GuardRefused(
                "the link was lost, and with it what was held: it has gone back to the queue",
                hint="that counts as a failed delivery of each; look again when the link is steady",
            )
        self._note("gap", "what was held has gone back with the link and comes again")
        self._held = 0
        self.buffer.withdraw(0.0)
        super()._again()

    def _ended_by(self, lost: BusError) -> BusError:
        if not isinstance(lost, ConsumerTimedOut) or not self._is_timeout(lost):
            return super()._ended_by(lost)
        self._give_back()
        return self._timed_out(lost)

    def _timed_out(self, lost: ConsumerTimedOut) -> ConsumerTimedOut:
        limit_ms = self.plan.built_on.consumer_timeout_ms
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
        lost = subscription.lost if subscription is not None else None
        if (end := self._end_of_queue(lost)) is not None:
            self.account = f"{messages} {end}"
            return
        if by_name:
            how = f"{'were' if self._held != 1 else 'was'} given back"
        else:
            how = f"went back with {'the channel that the broker closed' if lost is not None else 'the lost link'}"
        self.account = f"{messages} {how}, {spending.after.did(self._held, by_name=by_name)}"

    def _end_of_queue(self, lost: BusError | None) -> str | None:
        """What became of the messages that were held, where their queue did not outlive the look; None: it did."""
        ended = lost is not None and not self._is_timeout(lost)
        try:
            changes = self._changes()
        except NotFound:
            return "that were held went with it: it was deleted"
        except BusError:
            changes = Changes()
        if changes.itself or (changes.perhaps and ended):
            return "that were held went with it: it was deleted, and there is another one now"
        if ended:
            return "that were held have gone back, or went with it, should it have been deleted and declared again"
        return None


def _consumer_came(queue: str) -> GuardRefused:
    return GuardRefused(
        f"{queue} has a consumer: holding messages would take them from it", hint="what was held is given back"
    )
