"""Which queues hold dead letters: told from the topology, from names, and (asked for) from a message."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from busctl_lib import delays, topology_map
from busctl_lib.broker import MessageBroker
from busctl_lib.dead_names import is_dead_letter_queue
from busctl_lib.deadletters.dialects import Failure, failure_of
from busctl_lib.errors import BusError
from busctl_lib.management import BindingInfo, ExchangeInfo, History, ManagementClient, QueueInfo, why_away
from busctl_lib.management.queue_reading import fill_absent
from busctl_lib.moments import moment_of
from busctl_lib.taps.peek import peek
from busctl_lib.taps.plans import TAP_PREFIX

LOCK_PREFIX = "busctl.lock."
"""Of the exclusive queue that keeps two operations from one queue."""
_OWN = (LOCK_PREFIX, TAP_PREFIX)
_HOUR = History(age_s=3600, step_s=60)


class DeadLetterQueue(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A queue of dead letters."""

    name: str
    vhost: str
    type: str | None = None
    messages: int | None = None
    consumers: int | None = None
    arrivals: int | None = None
    """How many came in the last hour at least: by how much its depth grew."""
    history: list[tuple[float, float]] = []
    """Its depth over the last hour: (seconds since 1970, messages), oldest first."""
    oldest: float | None = None
    """The timestamp of the message at its head, where it has one and the broker tells it (seconds since 1970)."""
    sources: list[str] = []
    """Queues whose dead letters come here."""
    found_by: list[str] = []
    """dead-letter exchange, name, content."""
    away: str | None = None
    """Why it cannot be reached now, where it cannot: what is in it is not known."""


def dead_letter_queues(
    management: ManagementClient,
    vhost: str,
    *,
    look_into: MessageBroker | None = None,
    unread: dict[str, str] | None = None,
) -> list[DeadLetterQueue]:
    """Find the queues of a vhost that hold dead letters, the fullest first.

    Args:
        management: Where queues, bindings and policies are read.
        vhost: Whose.
        look_into: Also look at the first message of other queues that nobody consumes, within their peek budget.
        unread: Gets the queues that were not looked into, and why.
    """
    unread = {} if unread is None else unread
    overview = management.overview()
    listed = management.queues_counted(vhost, overview) if overview.is_large else management.queues_with_rates(vhost)
    queues = {info.name: info for info in listed if not info.name.startswith(_OWN)}
    sources = _by_topology(management, vhost, queues)
    found: dict[str, list[str]] = {name: ["dead-letter exchange"] for name in sources if name in queues}
    for name, info in queues.items():
        if is_dead_letter_queue(name) and not info.consumers:  # what is consumed there merely has such a name
            found.setdefault(name, []).append("name")
    if look_into is not None:
        for info in queues.values():
            if info.name not in found and _holds_dead_letters(management, look_into, info, unread):
                found[info.name] = ["content"]
    # A filter of names costs the broker a look at each queue there is.
    ask = management.queues_one_by_one if overview.is_large else management.queues_named
    for (_, name), info in ask([(vhost, name) for name in found], history=_HOUR).items():
        fill_absent(info, queues[name])
        queues[name] = info
    dead = [_info(queues[name], found_by, sources.get(name, ())) for name, found_by in found.items()]
    return sorted(dead, key=lambda each: (-(each.messages or 0), each.name))


def _info(info: QueueInfo, found_by: list[str], sources: Iterable[str]) -> DeadLetterQueue:
    details = info.messages_details
    history = sorted((each.timestamp / 1000, each.sample) for each in (details.samples if details else None) or [])
    depths = [depth for _, depth in history]
    return DeadLetterQueue(
        name=info.name,
        vhost=info.vhost,
        type=info.type,
        messages=info.messages,
        consumers=info.consumers,
        arrivals=int(sum(max(0, after - before) for before, after in pairwise(depths))) if depths else None,
        history=history,
        oldest=moment_of(info.head_message_timestamp),
        sources=sorted(sources),
        found_by=found_by,
        away=why_away(info),
    )


def _holds_dead_letters(
    management: ManagementClient, broker: MessageBroker, info: QueueInfo, unread: dict[str, str]
) -> bool:
    if info.consumers or not info.messages or info.type == "stream":
        return False
    try:
        seen = peek(broker, management, info.vhost, info.name, 1).messages
    except BusError as error:  # its budget is used up, it would be delayed, or somebody is at it
        unread[info.name] = str(error)
        return False
    return any(_tells_of_death(failure_of(delivery)) for delivery in seen)


def _tells_of_death(failure: Failure) -> bool:
    """Whether a message is a dead letter by its content; a job of these kinds looks the same alive."""
    return failure.dialect not in ("none", "celery", "dramatiq", "laravel") or failure.deaths > 0


def _by_topology(management: ManagementClient, vhost: str, queues: dict[str, QueueInfo]) -> dict[str, set[str]]:
    """Queues that dead letters are sent to, with the queues they come from."""
    policies = management.policies(vhost)
    exchanges = {info.name: info for info in management.exchanges(vhost)}
    outgoing: dict[str, list[BindingInfo]] = defaultdict(list)
    for binding in management.bindings(vhost):
        outgoing[binding.source].append(binding)
    found: dict[str, set[str]] = defaultdict(set)
    for info in queues.values():
        exchange, key = topology_map.dead_letter_route(info, policies)
        if exchange is not None and not info.name.startswith(delays.PREFIX):  # these wait there, and are not dead
            for name in _reached(exchange, key, exchanges, outgoing):
                if name != info.name:
                    found[name].add(info.name)
    return found


def _reached(
    exchange: str, key: str | None, exchanges: dict[str, ExchangeInfo], outgoing: dict[str, list[BindingInfo]]
) -> set[str]:
    """Queues that a dead letter may reach; with a key of its own it may be any."""
    if not exchange:
        return {key} if key else set()
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [exchange]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        kind = exchanges[name].type if name in exchanges else None
        for binding in outgoing[name]:
            if not topology_map.may_match(kind, binding.routing_key, key):
                continue
            if binding.destination_type == "queue":
                found.add(binding.destination)
            else:
                waiting.append(binding.destination)
    return found
