"""What the management API says of the cluster, its nodes and its virtual hosts, as types."""

from __future__ import annotations

from typing import Any, Literal

from busctl_lib.management.infos import Details, Info, MessageStats

LIST_WITH_RATES_MAX = 1000
"""Up to this many queues one list brings rates and consumers of all without hurting the broker."""


def release_of(version: str | None) -> tuple[int, ...] | None:
    """The first two numbers of a version, to be compared: (4, 3)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) if version else None


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
    cluster_tags: dict[str, Any] | None = None
    """From 4.0."""
    node_tags: dict[str, Any] | None = None
    """Of the node that answered; from 4.0."""
    message_stats: MessageStats | None = None
    queue_totals: QueueTotals | None = None
    object_totals: ObjectTotals | None = None
    listeners: list[Listener] | None = None
    statistics_db_event_queue: int | None = None

    @property
    def release(self) -> tuple[int, ...] | None:
        """The version's first two numbers, to be compared: (4, 3)."""
        return release_of(self.rabbitmq_version)

    @property
    def is_large(self) -> bool:
        """Whether there are more queues than a list with the rates of all should be asked for."""
        return self.object_totals is not None and (self.object_totals.queues or 0) > LIST_WITH_RATES_MAX


class Application(Info):
    """A part of a node's program."""

    name: str
    version: str | None = None


class NodeInfo(Info):
    """One node of the cluster; a node that is down has little more than its name."""

    name: str
    type: str | None = None
    running: bool | None = None
    being_drained: bool | None = None
    """In maintenance: it takes no clients, and leads no queues. From 4.0."""
    rabbitmq_version: str | None = None
    erlang_version: str | None = None
    """From 4.3."""
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
    applications: list[Application] | None = None
    """Read for the version alone."""

    def __post_init__(self) -> None:
        if self.rabbitmq_version is None:  # before 4.3 it stands among the parts of the node's program
            self.rabbitmq_version = next(
                (each.version for each in self.applications or () if each.name == "rabbit"), None
            )
        self.applications = None


class VhostInfo(Info):
    """One virtual host."""

    name: str
    description: str | None = None
    tags: list[str] | None = None
    default_queue_type: str | None = None
    """"undefined" up to 3.13 when none was set."""
    protected_from_deletion: bool | None = None
    """Whether the broker refuses to delete it; from 4.1."""
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


class DeprecatedFeature(Info):
    """A feature that a later version will not have. Source: https://www.rabbitmq.com/docs/deprecated-features."""

    name: str
    deprecation_phase: str | None = None
    """permitted_by_default, denied_by_default, disconnected or removed."""
    state: str | None = None
    """permitted or denied here; from 4.3."""
    desc: str | None = None
    doc_url: str | None = None
    provided_by: str | None = None

    @property
    def is_denied(self) -> bool:
        """Whether the broker does not permit its use; before 4.3 it tells only what is usual."""
        return self.state == "denied" or (self.state is None and self.deprecation_phase != "permitted_by_default")


class HealthCheck(Info):
    """What one of the broker's own checks said."""

    name: str
    status: Literal["ok", "failed", "absent", "unknown"]
    """absent: this version has no such check; unknown: it was asked in vain."""
    reason: str | None = None
