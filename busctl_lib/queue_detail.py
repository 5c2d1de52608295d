"""All that can be said of one queue: who holds its messages, where its dead letters go, whose come to it.

Who holds what is known by channel, not by queue: the broker counts the unacknowledged messages of a channel, whatever
queues they are from, and tells no times. What follows from its samples is said, and nothing more.
"""

from __future__ import annotations

import msgspec

from busctl_lib import topology_map
from busctl_lib.errors import ApiForbidden, BusError
from busctl_lib.management import BindingInfo, ChannelInfo, ManagementClient, QueueInfo, StreamTracking
from busctl_lib.topology_map import Place, TopologyMap

_CHANNEL_COLUMNS = (
    *("name", "number", "user", "vhost", "state", "connection_details.name", "consumer_count"),
    *("messages_unacknowledged", "prefetch_count", "idle_since"),
)

_LATE_S = 10.0
"""A sample shows what the queue told up to one statistics interval (5 s) before, and the broker rounds its time."""


class Holder(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A channel that holds unacknowledged messages."""

    channel: str
    connection: str | None = None
    user: str | None = None
    unacked: int
    """All that the channel holds."""
    consumers: list[str] = []
    """Its consumers of this queue; none: it may have taken messages by `basic.get`."""
    shared: bool = False
    """Whether it also consumes other queues: then only some may be of this one."""
    idle_since: str | None = None
    """When the channel last did anything: what it holds, it has held since then or longer."""


class QueueDetail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What belongs to one queue beyond its own fields. None is not known."""

    bindings: list[BindingInfo]
    dead_letters_to: list[str] | None = None
    """Queues that its dead letters can reach."""
    dead_letters_from: list[str] | None = None
    """Queues whose dead letters can come here."""
    dead_letter_exchange: str | None = None
    """Where it sends its dead letters; "" is the default exchange."""
    dead_letter_routing_key: str | None = None
    """The key they get; absent: they keep their own."""
    dead_letter_exchange_missing: bool = False
    """Its dead letters are lost: there is no such exchange."""
    holders: list[Holder] | None = None
    """Who holds unacknowledged messages."""
    unacked_after: float | None = None
    """Whatever is unacknowledged was delivered after this time (seconds since 1970), when there was none."""
    unacked_since: float | None = None
    """Every sample from this time on had unacknowledged messages, not necessarily the same ones."""
    tracking: StreamTracking | None = None
    """Of a stream: from where its readers would go on, as far as they store that in it."""
    tracking_unknown: str | None = None
    """Why that is not known."""
    rabbitmq_version: str | None = None
    """Of the broker: what a consumer's own timeout means depends on it."""


def read(api: ManagementClient, info: QueueInfo, topology: TopologyMap | None = None) -> QueueDetail:
    """Read what belongs to a queue.

    Args:
        api: Where it is read.
        info: The queue, with samples of `messages_unacknowledged` where times are wanted.
        topology: Its vhost's, where it is known already; it takes four requests.

    Raises:
        NotFound: the queue is gone meanwhile.
    """
    topology = topology or topology_map.read(api, info.vhost)
    exchange, key = topology_map.dead_letter_route(info)
    detail = QueueDetail(
        bindings=api.queue_bindings(info.vhost, info.name),
        dead_letters_to=topology.dead_letters_to(info.name),
        dead_letters_from=topology.dead_letters_from(info.name),
        dead_letter_exchange=exchange,
        dead_letter_routing_key=key,
        dead_letter_exchange_missing=bool(exchange) and not topology.has(Place("exchange", exchange or "")),
        holders=_holders(api, info) if info.messages_unacknowledged else [],
    )
    if info.messages_unacknowledged:
        detail.unacked_after, detail.unacked_since = unacked_times(info)
    if info.type == "stream":
        detail.tracking, detail.tracking_unknown = tracking_of(api, info)
    if info.consumer_details:
        detail.rabbitmq_version = api.overview().rabbitmq_version
    return detail


def tracking_of(api: ManagementClient, info: QueueInfo) -> tuple[StreamTracking | None, str | None]:
    """The stored offsets of a stream, or why they are not known."""
    try:
        return api.stream_tracking(info.vhost, info.name), None
    except BusError as error:
        return None, str(error)


def holders(info: QueueInfo, channels: list[ChannelInfo]) -> list[Holder]:
    """Find the channels that hold unacknowledged messages of a queue, those that hold most first.

    Args:
        info: The queue with its `consumer_details`.
        channels: Of its vhost.
    """
    tags: dict[str, list[str]] = {}
    for consumer in info.consumer_details or []:
        if consumer.channel_details is not None and consumer.channel_details.name is not None:
            tags.setdefault(consumer.channel_details.name, []).append(consumer.consumer_tag)
    found = [
        Holder(
            channel=channel.name,
            connection=channel.connection_details.name if channel.connection_details is not None else None,
            user=channel.user,
            unacked=channel.messages_unacknowledged,
            consumers=tags.get(channel.name, []),
            shared=(channel.consumer_count or 0) > len(tags.get(channel.name, [])),
            idle_since=channel.idle_since,
        )
        for channel in channels
        if channel.messages_unacknowledged and (channel.name in tags or not channel.consumer_count)
    ]
    known = [holder for holder in found if holder.consumers]
    if sum(holder.unacked for holder in known) < (info.messages_unacknowledged or 0):
        known += [holder for holder in found if not holder.consumers]  # taken by basic.get, from here or elsewhere
    return sorted(known, key=lambda holder: (not holder.consumers, -holder.unacked, holder.channel))


def unacked_times(info: QueueInfo) -> tuple[float | None, float | None]:
    """What the samples say of when the unacknowledged messages were delivered: (after, since).

    Returns:
        A time when there surely were none, or the time from which on every sample had some; both None without samples.
    """
    details = info.messages_unacknowledged_details
    samples = sorted((each.timestamp / 1000, each.sample) for each in (details.samples if details else None) or [])
    if not samples:
        return None, None
    empty = [at for at, count in samples if not count]
    return (empty[-1] - _LATE_S, None) if empty else (None, samples[0][0])


def _holders(api: ManagementClient, info: QueueInfo) -> list[Holder] | None:
    try:
        return holders(info, api.channels(info.vhost, columns=_CHANNEL_COLUMNS))
    except ApiForbidden:  # of others only with the monitoring tag
        return None
