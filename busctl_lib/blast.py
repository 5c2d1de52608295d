"""The blast radius: what a destructive change would hit, read before it is made."""

from __future__ import annotations

import msgspec

from busctl_lib import topology_map
from busctl_lib.errors import BusError
from busctl_lib.management import (
    BindingInfo,
    ConsumerInfo,
    ExchangeInfo,
    ManagementClient,
    alternate_of,
    definitions_of,
)
from busctl_lib.moments import moment_of
from busctl_lib.taps.taking import ends_with_a_look

_COLUMNS = ("name", "vhost", "type", "state", "arguments", "effective_policy_definition", "messages")


class QueueBlast(msgspec.Struct, kw_only=True):
    """What hangs on one queue. None is not known, never 0."""

    queue: str
    type: str | None = None
    ends_with_us: str | None = None
    """Why taking messages out of it deletes it, if so."""
    ready: int | None = None
    unacked: int | None = None
    delays: bool = False
    """Whether it has, or may have, messages that wait for their retry: nobody can take them."""
    delayed: int | None = None
    """How many wait so, as the broker counted some seconds ago."""
    next_delayed_at: int | None = None
    """When the next of them is ready again (milliseconds since 1970)."""
    oldest: float | None = None
    """When the message at its head was sent, in seconds since 1970, where the broker knows."""
    consumers: list[ConsumerInfo] | None = None
    bindings: list[BindingInfo] | None = None
    """Those to exchanges beyond the default one: they vanish with the queue."""
    exchanges: list[str] | None = None
    """Auto-delete exchanges that have no other binding: they vanish as well."""
    dead_letterers: list[str] | None = None
    """Queues whose dead letters come here: without it they would be lost."""


class ExchangeBlast(msgspec.Struct, kw_only=True):
    """What hangs on one exchange."""

    exchange: str
    outgoing: list[BindingInfo]
    incoming: list[BindingInfo]
    alternate_of: list[str]
    """Exchanges that give it what they cannot route."""
    dead_letterers: list[str]
    """Queues that send their dead letters to it."""


class VhostBlast(msgspec.Struct, kw_only=True):
    """What is in one virtual host."""

    vhost: str
    queues: int
    messages: int | None
    exchanges: int
    connections: int | None
    """None: those of others need the monitoring tag."""
    protected: bool = False
    """The broker refuses to delete it."""


def of_queue(api: ManagementClient, vhost: str, name: str, *, deleting: bool) -> QueueBlast:
    """What purging a queue would hit, or deleting it.

    Args:
        api: Where it is read.
        vhost: The queue's.
        name: The queue's.
        deleting: Also read what goes with the queue itself.

    Raises:
        NotFound: no such queue. QueueAway: it cannot be reached now.
    """
    info = api.queue_at_hand(vhost, name)
    found = QueueBlast(
        queue=name,
        type=info.type,
        ends_with_us=ends_with_a_look(info, len(info.consumer_details or ())),
        ready=info.messages_ready,
        unacked=info.messages_unacknowledged,
        delays=info.delays or bool(info.delayed),
        delayed=info.delayed,
        next_delayed_at=info.next_delayed_at,
        oldest=moment_of(info.head_message_timestamp),
        consumers=info.consumer_details,
    )
    if deleting:
        found.bindings = [binding for binding in api.queue_bindings(vhost, name) if binding.source]
        found.exchanges = _auto_deleted(api, vhost, name, found.bindings)
        found.dead_letterers = dead_letterers(api, vhost, name, found.bindings)
    return found


def of_exchange(api: ManagementClient, vhost: str, name: str) -> ExchangeBlast:
    """What deleting an exchange would hit.

    Raises:
        NotFound: no such exchange.
    """
    api.exchange(vhost, name)
    definitions = definitions_of(api.policies(vhost))
    return ExchangeBlast(
        exchange=name,
        outgoing=api.exchange_bindings(vhost, name),
        incoming=api.exchange_sources(vhost, name),
        alternate_of=sorted(info.name for info in api.exchanges(vhost) if alternate_of(info, definitions) == name),
        dead_letterers=sorted(queue for queue, (exchange, _) in _dead_letter_routes(api, vhost) if exchange == name),
    )


def of_vhost(api: ManagementClient, vhost: str) -> VhostBlast:
    """What deleting a virtual host would hit.

    Raises:
        VhostNotFound: there is none.
    """
    queues = api.queues(vhost)
    counts = [info.messages for info in queues if info.messages is not None]
    try:
        connections: int | None = len(api.connections(vhost))
    except BusError:
        connections = None
    exchanges = [info for info in api.exchanges(vhost) if info.name and not info.name.startswith("amq.")]
    return VhostBlast(
        vhost=vhost,
        queues=len(queues),
        messages=sum(counts) if counts or not queues else None,
        exchanges=len(exchanges),
        connections=connections,
        protected=bool(api.vhost(vhost).protected_from_deletion),
    )


def dead_letterers(api: ManagementClient, vhost: str, queue: str, bindings: list[BindingInfo]) -> list[str]:
    """Name the queues whose dead letters come to a queue, by the default exchange or through its bindings."""
    kinds = {info.name: info for info in api.exchanges(vhost)} if bindings else {}
    return sorted(
        name
        for name, route in _dead_letter_routes(api, vhost)
        if name != queue and _leads_to(*route, queue, bindings, kinds)
    )


def _leads_to(
    exchange: str | None, key: str | None, queue: str, bindings: list[BindingInfo], kinds: dict[str, ExchangeInfo]
) -> bool:
    if exchange is None:
        return False
    if not exchange:
        return key == queue
    for binding in bindings:
        if binding.source == exchange:
            kind = kinds[exchange].type if exchange in kinds else None
            if topology_map.may_match(kind, binding.routing_key, key):
                return True
    return False


def _dead_letter_routes(api: ManagementClient, vhost: str) -> list[tuple[str, tuple[str | None, str | None]]]:
    """Every queue of a vhost with the exchange and key its dead letters go to."""
    queues = api.queues_with_rates(vhost, columns=_COLUMNS)
    policies = api.policies(vhost)
    return [(info.name, topology_map.dead_letter_route(info, policies)) for info in queues]


def _auto_deleted(api: ManagementClient, vhost: str, queue: str, bindings: list[BindingInfo]) -> list[str]:
    """The auto-delete exchanges that would lose their last binding."""
    gone = []
    for name in sorted({binding.source for binding in bindings}):
        if api.exchange(vhost, name).auto_delete and all(
            other.destination_type == "queue" and other.destination == queue
            for other in api.exchange_bindings(vhost, name)
        ):
            gone.append(name)
    return gone
