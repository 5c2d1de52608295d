"""What the management API says of the cluster, its nodes and its virtual hosts, as types."""

from __future__ import annotations

from typing import Any

from busctl_lib.management.infos import Details, Info, MessageStats

LIST_WITH_RATES_MAX = 1000
"""Up to this many queues one list brings rates and consumers of all without hurting the broker."""


class QueueTotals(Info):
    """Messages in all queues the user may see."""

    messages: int | None = None
    messages_details: Details | None = None
    messages_ready: int | None = None
    messages_ready_details: Details | None = None
    messages_unacknowledged: int | None = None
    messages_unacknowledged_details: Details | None = None


class ObjectTotals(Info):
    """How many of each there are."""

    queues: int | None = None
    exchanges: int | None = None
    connections: int | None = None
    channels: int | None = None
    consumers: int | None = None


class Listener(Info):
    """A port a node listens on."""

    node: str | None = None
    protocol: str | None = None
    ip_address: str | None = None
    port: int | None = None


class OverviewInfo(Info):
    """The cluster in one answer: versions, totals, rates."""

    cluster_name: str | None = None
    rabbitmq_version: str | None = None
    product_name: str | None = None
    product_version: str | None = None
    management_version: str | None = None
    erlang_version: str | None = None
    node: str | None = None
    """The node that answered."""
    rates_mode: str | None = None
    disable_stats: bool | None = None
    default_queue_type: str | None = None
    message_stats: MessageStats | None = None
    queue_totals: QueueTotals | None = None
    object_totals: ObjectTotals | None = None
    listeners: list[Listener] | None = None
    statistics_db_event_queue: int | None = None

    @property
    def is_large(self) -> bool:
        """Whether there are more queues than a list with the rates of all should be asked for."""
        return self.object_totals is not None and (self.object_totals.queues or 0) > LIST_WITH_RATES_MAX


class NodeInfo(Info):
    """One node of the cluster; a node that is down has little more than its name."""

    name: str
    type: str | None = None
    running: bool | None = None
    being_drained: bool | None = None
    uptime: int | None = None
    """Milliseconds."""
    mem_used: int | None = None
    mem_limit: int | None = None
    mem_alarm: bool | None = None
    disk_free: int | None = None
    disk_free_limit: int | None = None
    disk_free_alarm: bool | None = None
    fd_used: int | None = None
    fd_total: int | None = None
    sockets_used: int | None = None
    sockets_total: int | None = None
    proc_used: int | None = None
    proc_total: int | None = None
    run_queue: int | None = None
    processors: int | None = None
    partitions: list[str] | None = None
    enabled_plugins: list[str] | None = None


class VhostInfo(Info):
    """One virtual host."""

    name: str
    description: str | None = None
    tags: list[str] | None = None
    default_queue_type: str | None = None
    """"undefined" up to 3.13 when none was set."""
    tracing: bool | None = None
    metadata: dict[str, Any] | None = None
    cluster_state: dict[str, str] | None = None
    messages: int | None = None
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    message_stats: MessageStats | None = None
    recv_oct: int | None = None
    recv_oct_details: Details | None = None
    send_oct: int | None = None
    send_oct_details: Details | None = None
