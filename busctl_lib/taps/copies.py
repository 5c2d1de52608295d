"""The copy tap: a queue of our own with the bindings of what is watched."""

from __future__ import annotations

from busctl_lib.envelope import Delivery
from busctl_lib.taps.plans import TapPlan
from busctl_lib.taps.queues import QueueTap


class CopyTap(QueueTap):
    """Watches by copies: each message is seen when it is routed, whatever becomes of the original.

    Effect: one exclusive bounded queue `busctl.tap.*` while it is open; it follows the bindings when they change.
    """

    def _set_up(self) -> None:
        self._queue.declare()
        for binding in self.plan.bindings:
            self._queue.bind(binding)
        self._queue.subscribe(exact=self.exact)
        self._wake.set()  # the plan may be old

    def _give_back(self) -> None:
        self._queue.remove()

    def _take(self, delivery: Delivery) -> None:
        if self.plan.narrow == "equal" and delivery.routing_key != self.plan.routing_key:
            return
        delivery.queue = self.plan.queue
        delivery.via = "copy"
        delivery.redelivered = None  # the copy's flag says nothing about the original
        self.buffer.put(delivery)

    def taken(self, delivery: Delivery) -> None:
        """Remember what was shown before it was known that the queue got it."""
        while self._unsure and self._unsure[0] < self._sure_until:
            self._unsure.popleft()
        if self.plan.queue is not None and delivery.received_at >= self._sure_until:
            self._unsure.append(delivery.received_at)

    def _doubt_of_shown(self) -> str | None:
        if self.plan.queue is None:
            return None
        withdrawn = self._queue.purge() + self.buffer.withdraw(self._sure_until)
        shown = sum(at >= self._sure_until for at in self._unsure)
        self._unsure.clear()
        if not shown and not withdrawn:
            return None
        queue, since = self.plan.queue, f"in the last {self._unsure_s:.1f} s"
        parts = [f"of what was shown {since} {shown:,} may never have reached {queue}"] * bool(shown)
        parts += [f"{withdrawn:,} that came {since} are not shown: they may never have reached {queue}"] * bool(
            withdrawn
        )
        return "; ".join(parts)

    def _rebind(self, new: TapPlan) -> None:
        old = self.plan
        for binding in new.bindings:
            if binding not in old.bindings:
                self._queue.bind(binding)
        for binding in old.bindings:
            if binding not in new.bindings:
                self._queue.unbind(binding)
