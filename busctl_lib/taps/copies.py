"""The copy tap: a queue of our own with the bindings of what is watched."""

from __future__ import annotations

from busctl_lib.envelope import Delivery
from busctl_lib.management import BindingInfo
from busctl_lib.taps.planner import plan
from busctl_lib.taps.plans import TAP_PREFIX
from busctl_lib.taps.queues import QueueTap


class CopyTap(QueueTap):
    """Watches by copies: each message is seen when it is routed, whatever becomes of the original.

    Effect: one exclusive bounded queue `busctl.tap.*` while it is open; it follows the bindings when they change.
    """

    def _set_up(self) -> None:
        self._known = self._bound_now()
        self._queue.declare()
        for binding in self.plan.bindings:
            self._queue.bind(binding)
        self._queue.subscribe(exact=self.exact)

    def _give_back(self) -> None:
        self._queue.remove()

    def _take(self, delivery: Delivery) -> None:
        if self.plan.narrow == "equal" and delivery.routing_key != self.plan.routing_key:
            return
        delivery.queue = self.plan.queue
        delivery.via = "copy"
        delivery.redelivered = None  # the copy's flag says nothing about the original
        self.buffer.put(delivery)

    def _check(self, *, after_gap: bool) -> None:
        self._keep_queue(after_gap=after_gap)
        bound = self._bound_now()
        if bound != self._known:
            self._follow_bindings()
            self._known = bound

    def _bound_now(self) -> set[tuple[str, str, str]]:
        """What the bindings are now. Raises NotFound when the queue or exchange is gone."""
        old = self.plan
        if old.queue is not None:
            infos = self._management.queue_bindings(old.vhost, old.queue)
        else:
            infos = self._management.exchange_bindings(old.vhost, old.exchange or "")
        return {_identity(info) for info in infos if not info.destination.startswith(TAP_PREFIX)}

    def _follow_bindings(self) -> None:
        """Plan anew and bind what came, unbind what went. Raises GuardRefused where a copy is no longer harmless."""
        old = self.plan
        new = plan(self._management, old.vhost, old.queue, exchange=old.exchange, key=old.routing_key, via="copy")
        for binding in new.bindings:
            if binding not in old.bindings:
                self._queue.bind(binding)
        for binding in old.bindings:
            if binding not in new.bindings:
                self._queue.unbind(binding)
        self.plan = new
        self._note("changed", f"the bindings have changed: now {new.coverage}")


def _identity(info: BindingInfo) -> tuple[str, str, str]:
    return (info.source, f"{info.destination_type} {info.destination}", info.properties_key or info.routing_key)
