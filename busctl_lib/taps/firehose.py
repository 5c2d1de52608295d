"""The firehose tap: every publish of the vhost, narrowed to what is watched, under a lease."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from busctl_lib.broker import MessageBroker
from busctl_lib.envelope import PROPERTY_NAMES, Delivery, Properties
from busctl_lib.errors import ApiForbidden, GuardRefused
from busctl_lib.management import ManagementClient
from busctl_lib.taps import keys
from busctl_lib.taps.leases import TRACE_EXCHANGE, TracingLease
from busctl_lib.taps.plans import Binding, TapPlan
from busctl_lib.taps.queues import QueueTap
from busctl_lib.taps.tap import WATCH_S

_SWITCHED_OFF_MAX = 2


class FirehoseTap(QueueTap):
    """Watches publishes by the broker's own tracing.

    Effect: while it is open tracing of the vhost is on and one exclusive bounded queue is bound to
    `amq.rabbitmq.trace`; at the end tracing is as it was, unless somebody else came to look meanwhile.
    Source: https://www.rabbitmq.com/docs/firehose.
    """

    def __init__(
        self,
        plan: TapPlan,
        broker: MessageBroker,
        management: ManagementClient,
        lease_folder: Path,
        *,
        watch_s: float = WATCH_S,
    ) -> None:
        super().__init__(plan, broker, management, watch_s=watch_s)
        self._lease = TracingLease(management, plan.vhost, self._queue.name, lease_folder)
        self._switched_off = 0
        self._looked_at = time.monotonic()

    @property
    def left_behind(self) -> str | None:
        """What could not be given back, in one sentence; None when all is as it was."""
        return self._lease.left_behind

    def _set_up(self) -> None:
        self._lease.prepare()
        self._queue.declare()
        self._bind()
        if not self._lease.is_on():
            self._lease.switch_on()
        self._queue.subscribe(exact=self.exact)
        self._looked_at = time.monotonic()
        self._wake.set()  # somebody may have switched it off between our look and our binding

    def _give_back(self) -> None:
        self._queue.remove()
        self._lease.give_back()

    def _bind(self) -> None:
        for exchange in self.plan.publishes_to:
            self._queue.bind(
                Binding(exchange=TRACE_EXCHANGE, routing_key=f"publish.{exchange}", arguments=self._lease.mark)
            )

    def _check(self, *, after_gap: bool) -> None:
        super()._check(after_gap=after_gap)
        looked_at, self._looked_at = self._looked_at, time.monotonic()
        if self._lease.is_on():
            return
        if after_gap:
            why = "tracing was off after the broker came back"
        else:
            self._switched_off += 1
            why = "tracing was switched off by somebody"
            if self._switched_off > _SWITCHED_OFF_MAX:
                raise GuardRefused(
                    f"{why}, {self._switched_off} times: this tail gives way",
                    hint="ask who else works on this broker (rabbitmqctl trace_off, another console)",
                )
        self._switch_on_again()
        blind_s = time.monotonic() - looked_at
        self._note("gap", f"{why}: on again; for up to {blind_s:.1f} s nothing was seen", seconds=blind_s)

    def _rebind(self, new: TapPlan) -> None:
        """Watch the exchanges, too, that lead to the queue since, and those no longer that do not."""
        gone = [f"publish.{name}" for name in self.plan.publishes_to if name not in new.publishes_to]
        self.plan = new
        self._bind()
        for binding in list(self._queue.bindings):
            if binding.routing_key in gone:
                self._queue.unbind(binding)

    def _switch_on_again(self) -> None:
        had_duty = self._lease.duty
        try:
            self._lease.switch_on()
        except ApiForbidden as error:
            raise GuardRefused(
                "tracing was switched off and this user may not switch it on: nothing more would be seen",
                hint=error.hint,
            ) from error
        if not had_duty:  # tell the others that it is a tail's tracing now
            before = list(self._queue.bindings)
            self._bind()
            for binding in before:
                self._queue.unbind(binding)

    def _take(self, delivery: Delivery) -> None:
        if self._wanted(delivery.headers):
            self.buffer.put(published(delivery, self.plan.queue or _only(delivery.headers.get("routed_queues"))))

    def _wanted(self, trace: dict[str, Any]) -> bool:
        plan = self.plan
        if plan.queue is not None:
            return plan.queue in trace.get("routed_queues", ())
        if plan.exchange is None:
            return True
        if trace.get("exchange_name") != plan.exchange:
            return False
        if plan.narrow == "no":
            return True
        same = keys.matches if plan.narrow == "pattern" else str.__eq__
        return any(same(plan.routing_key or "", _text(key)) for key in trace.get("routing_keys", ()))


def _only(queues: Any) -> str | None:
    """The queue that a message went to, where it was one."""
    return _text(queues[0]) if isinstance(queues, list) and len(queues) == 1 else None


def published(trace: Delivery, queue: str | None) -> Delivery:
    """Rebuild the message that a firehose notification tells of.

    Args:
        trace: The notification, routing key `publish.EXCHANGE`.
        queue: The queue to name in it.
    """
    headers = trace.headers
    table = headers.get("properties") or {}
    routing_keys = headers.get("routing_keys") or [""]
    return Delivery(
        exchange=_text(headers.get("exchange_name", "")),
        routing_key=_text(routing_keys[0]),
        properties=_properties(table, trace.received_at),
        body=trace.body,
        queue=queue,
        received_at=trace.received_at,
        via="firehose",
    )


def _properties(table: dict[str, Any], now: float) -> Properties:
    found: dict[str, Any] = {}
    for name in PROPERTY_NAMES:
        value = table.get(name)
        if value is None:
            continue
        if name == "timestamp":
            value = _uncut_timestamp(int(value), now)
        elif name in ("delivery_mode", "priority"):
            value = int(value)
        elif name != "headers":
            value = _text(value)
        found[name] = value
    return Properties(**found)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def _uncut_timestamp(value: int, now: float) -> int | None:
    """Tell the timestamp from its lower 32 bits, all that the firehose writes of it; None where that would be a guess.

    Seconds are whole up to 2038. Milliseconds, which some publishers put there, are cut: then the bits are those of the
    present in milliseconds, or lie in the future as seconds.
    """
    day = 86_400
    seconds = value % 2**32
    if abs(seconds - now) <= day:
        return seconds
    behind_ms = (int(now * 1000) - value) % 2**32
    cut = min(behind_ms, 2**32 - behind_ms) < 60_000
    return None if cut or seconds > now + day else seconds
