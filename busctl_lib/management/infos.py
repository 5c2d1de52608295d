"""What the management API says of one object, as types. The names are the API's own.

Absent is None, never 0: a queue that was declared a moment ago has no statistics yet, a light list has no rates,
and a user without the monitoring tag sees less. A field whose value is not of its type (the broker writes "unknown"
or [] for some) counts as absent as well.
Source: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Info(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Base of all infos: None is left out when one is written as JSON."""


class Sample(msgspec.Struct, gc=False):
    """One point of the broker's own history."""

    sample: float
    timestamp: int
    """Milliseconds since 1970."""


class Details(Info):
    """How a number moves."""

    rate: float | None = None
    """Change per second over the last statistics interval (5 s)."""
    avg: float | None = None
    avg_rate: float | None = None
    samples: list[Sample] | None = None
    """Newest first; only when history was asked for. Points before the object was there are 0."""


class MessageStats(Info):
    """Message counts since the start, and their rates. Source: https://www.rabbitmq.com/docs/management#message-rates."""

    publish: int | None = None
    publish_details: Details | None = None
    publish_in: int | None = None
    publish_in_details: Details | None = None
    publish_out: int | None = None
    publish_out_details: Details | None = None
    confirm: int | None = None
    confirm_details: Details | None = None
    deliver_get: int | None = None
    """Everything handed out, acknowledged or not, first time or again."""
    deliver_get_details: Details | None = None
    ack: int | None = None
    ack_details: Details | None = None
    redeliver: int | None = None
    redeliver_details: Details | None = None
    return_unroutable: int | None = None
    return_unroutable_details: Details | None = None
    drop_unroutable: int | None = None
    drop_unroutable_details: Details | None = None


class ChannelDetails(Info):
    """The channel a consumer lives on."""

    name: str | None = None
    number: int | None = None
    connection_name: str | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    user: str | None = None
    node: str | None = None


class QueueName(Info):
    """A queue as another object names it."""

    name: str
    vhost: str


class ConsumerInfo(Info):
    """One consumer."""

    consumer_tag: str
    queue: QueueName
    channel_details: ChannelDetails | None = None
    ack_required: bool | None = None
    active: bool | None = None
    activity_status: str | None = None
    exclusive: bool | None = None
    prefetch_count: int | None = None
    arguments: dict[str, Any] | None = None
    consumer_timeout: int | None = None

    @property
    def vhost(self) -> str:
        """Where its queue lives."""
        return self.queue.vhost


class QueueInfo(Info):
    """One queue. A light list fills in the first fields only; `consumer_details` come with a single queue."""

    name: str
    vhost: str
    type: str | None = None
    """classic, quorum, stream, or a plug-in's."""
    state: str | None = None
    durable: bool | None = None
    auto_delete: bool | None = None
    exclusive: bool | None = None
    arguments: dict[str, Any] | None = None
    node: str | None = None
    leader: str | None = None
    members: list[str] | None = None
    online: list[str] | None = None
    messages: int | None = None
    """Ready plus unacknowledged. Not in the light list of a stream."""
    messages_ready: int | None = None
    messages_ready_returned: int | None = None
    """How many of the ready ones came back before, which a quorum queue hands out first; from 4.0 on."""
    messages_unacknowledged: int | None = None
    messages_delayed: int | None = None
    """What waits for its retry, from 4.3 on: neither ready nor unacknowledged, and nobody can take it."""
    messages_details: Details | None = None
    messages_ready_details: Details | None = None
    messages_unacknowledged_details: Details | None = None
    messages_by_priority: dict[str, int] | None = None
    """How many wait with which priority; of a quorum queue from 4.3. Not in lists."""
    message_bytes: int | None = None
    memory: int | None = None
    consumers: int | None = None
    consumer_capacity: float | None = None
    """Share of the time in which a message could have been delivered at once (0 to 1)."""
    consumer_utilisation: float | None = None
    single_active_consumer_tag: str | None = None
    exclusive_consumer_tag: str | None = None
    policy: str | None = None
    operator_policy: str | None = None
    effective_policy_definition: dict[str, Any] | None = None
    delivery_limit: int | str | None = None
    """What counts, from 4.0 on; "unlimited" where nothing does."""
    delayed_retry: str | None = None
    """What counts, from 4.3 on: "disabled", or as "all (min: 60000ms, max: 60000ms)"."""
    next_delayed_at: int | None = None
    """When the next of the delayed messages is ready again (milliseconds since 1970)."""
    head_message_timestamp: int | None = None
    idle_since: str | None = None
    segments: int | None = None
    """Of a stream, from 4.0."""
    first_timestamp: int | None = None
    """When the first message of a stream was written, in milliseconds since 1970; from 4.3. None while not known."""
    readers: dict[str, int] | None = None
    """Of a stream: how many readers each node serves."""
    message_stats: MessageStats | None = None
    consumer_details: list[ConsumerInfo] | None = None

    def __post_init__(self) -> None:
        self.first_timestamp = self.first_timestamp or None  # 0 is "not known" there

    @property
    def key(self) -> tuple[str, str]:
        """(vhost, name): what tells one queue from another."""
        return (self.vhost, self.name)

    @property
    def delays(self) -> bool:
        """Whether it was set up to delay what is given back, as far as this info tells."""
        names = [*(self.arguments or {}), *(self.effective_policy_definition or {})]
        return any(name.removeprefix("x-") == "delayed-retry-type" for name in names)

    @property
    def delayed(self) -> int | None:
        """How many messages wait for their retry; None where the queue delays none, or it is not known."""
        if self.messages_delayed is not None:
            return self.messages_delayed
        total, ready, unacked = self.messages, self.messages_ready, self.messages_unacknowledged
        if not self.delays or total is None or ready is None or unacked is None:
            return None
        return max(0, total - ready - unacked)


class StreamTracking(Info):
    """Who reads a stream from where, and who writes to it, as far as they gave themselves a name."""

    offsets: dict[str, int] | None = None
    """By the name of a reader: the offset that it stored last."""
    writers: dict[str, int] | None = None


QUEUE_LIST_COLUMNS: tuple[str, ...] = (
    *("name", "vhost", "type", "state", "durable", "auto_delete", "exclusive", "arguments", "node", "leader"),
    *("online", "members", "messages", "messages_ready", "messages_unacknowledged", "messages_details.rate"),
    *("messages_delayed", "delayed_retry", "next_delayed_at"),
    *("message_bytes", "memory", "consumers", "consumer_capacity", "policy", "effective_policy_definition"),
    *("single_active_consumer_tag", "delivery_limit", "idle_since", "head_message_timestamp"),
    *("message_stats.publish_details.rate", "message_stats.deliver_get_details.rate"),
    *("message_stats.ack_details.rate", "message_stats.redeliver_details.rate"),
)
"""What a list with rates asks for: a seventh of the bytes of a plain list."""


QUEUE_NAME_COLUMNS: tuple[str, ...] = (
    *("name", "vhost", "type", "state", "durable", "auto_delete", "exclusive", "arguments", "node"),
    *("leader", "members", "online"),
)
"""What tells what a queue is."""


QUEUE_COUNT_COLUMNS: tuple[str, ...] = (
    *QUEUE_NAME_COLUMNS,
    *("messages", "messages_ready", "messages_unacknowledged", "consumers"),
)
"""What the list of a large bus asks for where counts cannot be had from elsewhere."""


class PublisherInfo(Info):
    """What one channel publishes to an exchange."""

    channel_details: ChannelDetails | None = None
    stats: MessageStats | None = None


class ExchangeInfo(Info):
    """One exchange; the default exchange has the name "". `incoming` comes with a single exchange."""

    name: str
    vhost: str
    type: str | None = None
    durable: bool | None = None
    auto_delete: bool | None = None
    internal: bool | None = None
    arguments: dict[str, Any] | None = None
    policy: str | None = None
    message_stats: MessageStats | None = None
    incoming: list[PublisherInfo] | None = None
    user_who_performed_action: str | None = None


class BindingInfo(Info):
    """One binding."""

    source: str
    vhost: str
    destination: str
    destination_type: str
    """queue or exchange."""
    routing_key: str
    arguments: dict[str, Any] | None = None
    properties_key: str | None = None


class ConnectionInfo(Info):
    """One client connection."""

    name: str
    vhost: str | None = None
    user: str | None = None
    node: str | None = None
    state: str | None = None
    type: str | None = None
    protocol: str | None = None
    user_provided_name: str | None = None
    peer_host: str | None = None
    peer_port: int | None = None
    ssl: bool | None = None
    ssl_protocol: str | None = None
    ssl_cipher: str | None = None
    auth_mechanism: str | None = None
    channels: int | None = None
    channel_max: int | None = None
    frame_max: int | None = None
    timeout: int | None = None
    """The negotiated heartbeat in seconds."""
    connected_at: int | None = None
    """Milliseconds since 1970."""
    recv_oct: int | None = None
    recv_oct_details: Details | None = None
    send_oct: int | None = None
    send_oct_details: Details | None = None
    send_pend: int | None = None
    client_properties: dict[str, Any] | None = None


class ConnectionDetails(Info):
    """The connection a channel lives on."""

    name: str | None = None
    peer_host: str | None = None
    peer_port: int | None = None


class ChannelInfo(Info):
    """One channel."""

    name: str
    number: int | None = None
    vhost: str | None = None
    user: str | None = None
    node: str | None = None
    state: str | None = None
    connection_details: ConnectionDetails | None = None
    consumer_count: int | None = None
    prefetch_count: int | None = None
    global_prefetch_count: int | None = None
    messages_unacknowledged: int | None = None
    messages_unconfirmed: int | None = None
    messages_uncommitted: int | None = None
    acks_uncommitted: int | None = None
    confirm: bool | None = None
    transactional: bool | None = None
    idle_since: str | None = None
    message_stats: MessageStats | None = None


class PolicyInfo(Info):
    """One policy."""

    name: str
    vhost: str
    pattern: str | None = None
    definition: dict[str, Any] | None = None
    priority: int | None = None
    apply_to: str | None = msgspec.field(default=None, name="apply-to")


def rate_of(stats: MessageStats | None, name: str) -> float | None:
    """The rate of one count of message statistics (`publish`, `deliver_get`, `ack` ...); None when not known."""
    details: Details | None = getattr(stats, f"{name}_details") if stats is not None else None
    return details.rate if details is not None else None
