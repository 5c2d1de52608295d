"""The blast radius in words: labels and texts, foreign ones among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from busctl.views import formats
from busctl.views.queues import waiting_for_retry

if TYPE_CHECKING:
    from busctl_lib.blast import ExchangeBlast, QueueBlast, VhostBlast
    from busctl_lib.management import BindingInfo, ConsumerInfo

Hits = list[tuple[str, str]]
_MOST = 5
"""How many names of a kind are shown."""


def purge(found: QueueBlast) -> Hits:
    """What purging a queue hits: what waits goes, what consumers hold stays theirs."""
    held = f"; {_number(found.unacked)} unacknowledged stay with their consumers" if found.unacked else ""
    ready = ("messages", f"{_number(found.ready)} ready{held}")
    return [ready, *_delayed(found), *_oldest(found), ("consumers", _consumers(found))]


def delete_queue(found: QueueBlast) -> Hits:
    """What deleting a queue hits."""
    messages = f"{_number(found.ready)} ready, {_number(found.unacked)} unacknowledged"
    hits = [("messages", messages), *_delayed(found), *_oldest(found), ("consumers", _consumers(found))]
    if found.bindings is not None:
        hits.append(("bindings", listed([_binding(each) for each in found.bindings])))
    if found.exchanges:
        hits.append(("exchanges", f"{listed(found.exchanges)} (auto-delete, without another binding)"))
    if found.dead_letterers is None:
        hits.append(("unknown", "its bindings, and whose dead letters come here: the management API does not say"))
    elif found.dead_letterers:
        hits.append(("loses", f"the dead letters of {listed(found.dead_letterers)}, which come here"))
    return hits


def delete_exchange(found: ExchangeBlast) -> Hits:
    """What deleting an exchange hits."""
    hits = [("bindings", listed([_leading(each) for each in found.outgoing]))]
    if found.incoming:
        hits.append(("fed by", listed([_binding(each) for each in found.incoming])))
    if found.alternate_of:
        hits.append(("loses", f"what {listed(found.alternate_of)} cannot route, which comes here"))
    if found.dead_letterers:
        hits.append(("loses", f"the dead letters of {listed(found.dead_letterers)}, which come here"))
    hits.append(("publishers", "who goes on publishing to it has the channel closed with 404"))
    return hits


def delete_vhost(found: VhostBlast) -> Hits:
    """What deleting a virtual host hits."""
    return [
        ("queues", f"{found.queues:,} with {_number(found.messages)} messages"),
        ("exchanges", f"{found.exchanges:,} beside the broker's own"),
        ("clients", "connections not known" if found.connections is None else f"{found.connections:,} connections"),
        ("also", "its bindings, policies, parameters and permissions"),
    ]


def listed(names: Sequence[str]) -> str:
    """Some names, and how many there are where that is more."""
    if not names:
        return "none"
    more = f" and {len(names) - _MOST:,} more" if len(names) > _MOST else ""
    count = f"{len(names):,}: " if len(names) > 1 else ""
    return f"{count}{', '.join(formats.safe_text(name, 80) for name in names[:_MOST])}{more}"


def _number(count: int | None) -> str:
    return f"{count:,}" if count is not None else "an unknown number of"


def _delayed(found: QueueBlast) -> Hits:
    """What waits for its retry: it goes too, and nobody can take it to keep it."""
    told = waiting_for_retry(found.delayed, found.next_delayed_at)
    if told is None and not found.delays:
        return []
    return [("delayed", f"{told or 'none as far as is known'}: they go too, and cannot be kept in the trash")]


def _oldest(found: QueueBlast) -> Hits:
    age = formats.ago(found.oldest)  # the broker knows it only where publishers set a timestamp
    return [] if age == formats.UNKNOWN else [("oldest", f"sent {age}")]


def _consumers(found: QueueBlast) -> str:
    if found.consumers is None:
        return formats.UNKNOWN
    return listed([_consumer(each) for each in found.consumers])


def _consumer(info: ConsumerInfo) -> str:
    channel = info.channel_details
    where = channel.connection_name or channel.name if channel is not None else None
    return f"{info.consumer_tag} from {where}" if where else info.consumer_tag


def _binding(info: BindingInfo) -> str:
    return f"{info.source} {info.routing_key!r}"


def _leading(info: BindingInfo) -> str:
    return f"{info.routing_key!r} to {info.destination_type} {info.destination}"
