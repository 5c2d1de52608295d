"""The ways to watch what goes through an exchange."""

from __future__ import annotations

from busctl_lib.management import ExchangeInfo, ManagementClient
from busctl_lib.taps import keys
from busctl_lib.taps.guards import Guard
from busctl_lib.taps.plans import (
    COPY_COSTS,
    TAP_PREFIX,
    Binding,
    Narrow,
    TapPlan,
    Verdict,
    bindings_of,
    counted,
    listed,
)
from busctl_lib.taps.sources import Topology


def for_exchange(
    management: ManagementClient, vhost: str, exchange: str, key: str | None, guard: Guard
) -> list[Verdict]:
    """Judge the ways to watch an exchange, the best first. Raises NotFound."""
    topology = Topology(management, vhost)
    info = management.exchange(vhost, exchange)
    narrow: Narrow = "no" if key is None else "pattern" if info.type == "topic" else "equal"
    with_key = "" if key is None else f" with key {key}"
    firehose = Verdict(way="firehose", refusal=guard.refusal, by_name=guard.by_name)
    if guard.refusal is None:
        firehose.plan = TapPlan(
            vhost=vhost,
            way="firehose",
            reason="the firehose shows every publish to the exchange",
            sees=f"every message published to the exchange{with_key}, also those that no queue takes",
            misses=["what comes to it from other exchanges or as dead letters", *guard.misses],
            costs=guard.costs,
            exchange=exchange,
            routing_key=key,
            narrow=narrow,
            publishes_to=[exchange],
        )
    if not exchange:
        copy = Verdict(way="copy", refusal="nothing can be bound to the default exchange")
    elif (harm := topology.harm(exchange)) is not None:
        copy = Verdict(way="copy", refusal=harm)
    else:
        copy = _copy_of_exchange(management, info, key, narrow)
    return [copy, firehose]


def _copy_of_exchange(management: ManagementClient, info: ExchangeInfo, key: str | None, narrow: Narrow) -> Verdict:
    """Take over bindings that queues have, so that what was unroutable stays unroutable."""
    queues = [
        found
        for found in management.exchange_bindings(info.vhost, info.name)
        if found.destination_type == "queue" and not found.destination.startswith(TAP_PREFIX)
    ]
    by_key = key is not None and info.type not in ("fanout", "headers")  # there a key routes nothing
    if by_key:
        covers = keys.covers if narrow == "pattern" else str.__eq__
        queues = [found for found in queues if covers(found.routing_key, key or "")]
    if not queues:
        what = f"no binding to a queue covers the key {key!r}" if by_key else "no queue is bound to it directly"
        reason = f"{what}: with a copy there, publishers would be told that their message was routed"
        return Verdict(way="copy", refusal=reason)
    taken = f"what its {counted(len(queues), 'binding')} to queues take{'s' * (len(queues) == 1)}: {listed(queues)}"
    made = TapPlan(
        vhost=info.vhost,
        way="copy",
        reason="queues are bound to the exchange for the same keys",
        sees=f"messages with key {key}" if by_key else taken,
        misses=["messages that no queue takes"],
        costs=COPY_COSTS,
        exchange=info.name,
        routing_key=key,
        narrow="no" if by_key else narrow,
        bindings=[Binding(exchange=info.name, routing_key=key or "", arguments={})] if by_key else bindings_of(queues),
    )
    return Verdict(way="copy", plan=made)
