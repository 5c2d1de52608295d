"""The queue behind a tap: exclusive, bounded, and harmless when it overflows."""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from busctl_lib.broker import MessageBroker, State, Subscription
from busctl_lib.envelope import Delivery
from busctl_lib.errors import BusError, GuardRefused, NotFound
from busctl_lib.management import ManagementClient
from busctl_lib.taps.foundations import Changes
from busctl_lib.taps.planner import plan
from busctl_lib.taps.plans import TAP_PREFIX, Binding, TapPlan, bindings_of
from busctl_lib.taps.tap import WATCH_S, Gone, Tap

MAX_MESSAGES = 10_000
MAX_BYTES = 64 * 2**20


class TapQueue:
    """One exclusive queue that takes what its bindings bring, and forgets the oldest when nobody reads.

    The broker deletes it with the connection, so nothing stays after a kill. Its dead letters go to a queue that does
    not exist: a catch-all policy would otherwise send what it drops into somebody's dead-letter queue.
    """

    def __init__(
        self, broker: MessageBroker, on_delivery: Callable[[Delivery], None], on_lost: Callable[[], None]
    ) -> None:
        self.name = f"{TAP_PREFIX}{uuid.uuid4().hex[:16]}"
        self.bindings: list[Binding] = []
        self.epoch = 0
        """Which incarnation of the queue the last message came from."""
        self.received = 0
        """Messages of this incarnation."""
        self._broker = broker
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._subscription: Subscription | None = None
        self._declared = False

    def declare(self) -> None:
        """Declare it, with nothing bound yet."""
        self._declared = True
        arguments: dict[str, Any] = {
            "x-queue-type": "classic",  # by name: a vhost's default could be a type that cannot be exclusive
            "x-max-length": MAX_MESSAGES,
            "x-max-length-bytes": MAX_BYTES,
            "x-overflow": "drop-head",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{self.name}.nowhere",
        }
        self._broker.declare_queue(self.name, durable=False, exclusive=True, arguments=arguments)

    def bind(self, binding: Binding) -> None:
        """Add a binding; one that is there already is fine."""
        if binding not in self.bindings:
            self.bindings.append(binding)
        self._broker.bind_queue(self.name, binding.exchange, binding.routing_key, binding.arguments)

    def unbind(self, binding: Binding) -> None:
        """Take a binding away."""
        self._broker.unbind_queue(self.name, binding.exchange, binding.routing_key, binding.arguments)
        if binding in self.bindings:
            self.bindings.remove(binding)

    def subscribe(self, *, exact: bool = False) -> None:
        """Let the messages come; `exact` as of `MessageBroker.subscribe`."""
        self._subscription = self._broker.subscribe(
            self.name, self._take, auto_ack=True, exact=exact, on_cancelled=lambda _reason: self._on_lost()
        )

    def restore(self) -> None:
        """Declare and bind all again after the queue or the link was lost; what is there already is fine.

        Raises:
            ResourceLocked: the broker has not noticed yet that the former connection is dead.
        """
        self.declare()
        for binding in list(self.bindings):
            with contextlib.suppress(NotFound):  # a look at what the plan was built on will tell
                self.bind(binding)

    def bind_lost(self, management: ManagementClient, vhost: str) -> list[str]:
        """Bind again where bindings went with an exchange that was deleted; returns to which exchanges."""
        try:
            there = bindings_of(management.queue_bindings(vhost, self.name))
        except NotFound:  # the queue itself: whoever lost it is told
            return []
        lost = [binding for binding in self.bindings if binding not in there]
        for binding in lost:
            self.bind(binding)
        return sorted({binding.exchange for binding in lost})

    def purge(self) -> int:
        """Forget what waits in it, and return how many that were; what was sent before has come when this returns."""
        try:
            return self._broker.purge_queue(self.name, timeout=5.0)
        except BusError:
            return 0

    def remove(self) -> None:
        """Stop consuming and delete the queue; where that does not work the queue goes with the connection."""
        timeout = 5.0 if self._broker.state in (State.OPEN, State.BLOCKED) else 0.5
        try:
            if self._subscription is not None:
                self._subscription.cancel(timeout)
            if self._declared:
                self._broker.delete_queue(self.name, timeout=timeout)
        except BusError:
            return

    def _take(self, delivery: Delivery) -> None:
        if delivery.epoch != self.epoch:
            self.epoch, self.received = delivery.epoch, 0
        self.received += 1
        self._on_delivery(delivery)


class QueueTap(Tap):
    """Base of the taps that see messages through a queue of their own."""

    def __init__(
        self, plan: TapPlan, broker: MessageBroker, management: ManagementClient, *, watch_s: float = WATCH_S
    ) -> None:
        super().__init__(plan, broker, management, watch_s=watch_s)
        self._queue = TapQueue(broker, self._receive, self._on_queue_lost)
        self._queue_lost = False
        self._drops = _BrokerDrops(self._queue)
        self._unsure: deque[float] = deque()
        """When the messages came that were taken since all was surely as planned."""

    def _receive(self, delivery: Delivery) -> None:
        if not self._ended:
            self._heard_at = delivery.received_at
            self._take(delivery)

    def _take(self, delivery: Delivery) -> None:
        """Pass on what is to be seen of a delivery. Thread: I/O."""
        raise NotImplementedError

    def _rebind(self, new: TapPlan) -> None:
        """Bind the queue as another plan says."""
        raise NotImplementedError

    def _doubt_of_shown(self) -> str | None:
        """Say which of the shown messages may not have reached what is watched, if any; take the others back."""
        return None

    def _on_queue_lost(self) -> None:
        self._queue_lost = True
        self._wake.set()

    def _check(self, *, after_gap: bool) -> None:
        try:
            if after_gap:
                self._require_there()
            self._keep_queue(after_gap=after_gap)
            if changes := self._changes():
                self._plan_anew(changes)
        except Gone:
            self._tell_doubt()
            raise
        for exchange in self._queue.bind_lost(self._management, self.plan.vhost):
            self._note("gap", f"exchange {exchange} was deleted and declared again: what came between was not seen")
        lost = self._drops.count(self._management, self.plan.vhost)
        if lost:
            text = f"at least {lost:,} messages dropped at the broker: they came faster than they were taken"
            self._note("dropped", text, count=lost)

    def _keep_queue(self, *, after_gap: bool) -> None:
        if after_gap or self._queue_lost:
            self._queue.restore()
            if self._queue_lost and not after_gap:
                self._note("gap", "the tap's own queue was deleted by somebody: declared again")
            self._queue_lost = False

    def _plan_anew(self, changes: Changes) -> None:
        """Go on with what is there now. Raises GuardRefused where it can no longer be watched in this way."""
        old = self.plan
        try:
            new = plan(self._management, old.vhost, old.queue, exchange=old.exchange, key=old.routing_key, via=old.way)
        except GuardRefused as error:
            if changes.doubtful:
                self._tell_doubt()
            raise GuardRefused(f"{old.target} has changed: {changes.text}; {error}", hint=error.hint) from error
        self._rebind(new)
        self.plan = new
        said = [f"{old.target} has changed: {changes.text}"]
        if changes.came:
            said.append(f"what came that way in the last {self._unsure_s:.1f} s was not seen")
        if changes.doubtful and (doubt := self._doubt_of_shown()) is not None:
            said.append(doubt)
        if new.sees != old.sees:
            said.append(f"now {new.coverage}")
        self._note("changed", "; ".join(said))

    def _tell_doubt(self) -> None:
        self._ended = True  # first: no more must come
        if (doubt := self._doubt_of_shown()) is not None:
            self._note("changed", doubt)

    def _look_back(self) -> None:
        try:
            found = self._changes().text
        except Gone as error:
            found = str(error)
        except BusError:
            return
        if found:
            doubt = self._doubt_of_shown()
            self.account = f"{self.plan.target}, looked at once more: {found}{f'; {doubt}' if doubt else ''}"


class _BrokerDrops:
    """What the broker put into a tap's queue and we never received.

    The broker's count is some seconds old and ours is of now, so a shortfall is no delay of the count; it is told when
    it was there twice in a row, for a message may be on its way.
    """

    def __init__(self, queue: TapQueue) -> None:
        self._queue = queue
        self._epoch = 0
        self._told = 0
        self._before = 0

    def count(self, management: ManagementClient, vhost: str) -> int:
        """Tell how many more were lost since the last time, at least."""
        key = (vhost, self._queue.name)
        found = management.queues_one_by_one([key], columns=("name", "vhost", "message_stats.publish")).get(key)
        if found is None:
            return 0
        if self._queue.epoch != self._epoch:
            self._epoch, self._told, self._before = self._queue.epoch, 0, 0
        published = (found.message_stats.publish if found.message_stats is not None else None) or 0
        short = max(0, published - self._queue.received - self._told)
        lost, self._before = min(short, self._before), short
        self._told += lost
        self._before -= lost
        return lost
