"""Nouns: what the console lists with one screen for all: where it comes from, and where it leads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from textual.message import Message

from busctl.tui.messages import (
    OpenDead,
    OpenList,
    OpenOperation,
    OpenQueue,
    OpenTopology,
    OpenTransfer,
    SwitchTo,
    SwitchVhost,
)
from busctl.tui.widgets.slots import Slot
from busctl.views.bindings import BINDINGS
from busctl.views.channels import CHANNELS
from busctl.views.connections import CONNECTIONS, client
from busctl.views.consumers import CONSUMERS
from busctl.views.consumers import connection as consumer_connection
from busctl.views.contexts import CONTEXTS, ContextInfo
from busctl.views.dead import DEAD_QUEUES
from busctl.views.exchanges import EXCHANGES, shown_name
from busctl.views.federation import FEDERATION
from busctl.views.formats import safe_text
from busctl.views.nodes import NODES
from busctl.views.operations import OPERATIONS
from busctl.views.permissions import PERMISSIONS
from busctl.views.policies import POLICIES
from busctl.views.shovels import SHOVELS
from busctl.views.users import USERS
from busctl.views.vhosts import VHOSTS
from busctl.views.view import View

if TYPE_CHECKING:
    from busctl.session import Session
    from busctl.tui.feed import Feed
    from busctl_lib.deadletters import DeadLetterQueue
    from busctl_lib.journal import Operation
    from busctl_lib.management import AccountInfo, FederationLinkInfo, PermissionInfo, ShovelInfo
    from busctl_lib.management.infos import (
        BindingInfo,
        ChannelInfo,
        ConnectionInfo,
        ConsumerInfo,
        ExchangeInfo,
        PolicyInfo,
    )
    from busctl_lib.management.infos_cluster import NodeInfo, VhostInfo

T = TypeVar("T")
_TEXT_LEAST, _TEXT_MOST, _NUMBER_LEAST = 12, 48, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun(Generic[T]):
    """One list."""

    view: View[T]
    fetch: Callable[[Session], Sequence[T]]
    key: Callable[[T], Hashable]
    label: Callable[[T], str]
    """What `/text` looks at."""
    opens: Callable[[T], Message | None] | None = None
    """Where enter leads; to the description if None."""
    jumps: Mapping[str, Callable[[T], Message | None]] = field(default_factory=dict)
    """Where other keys lead: "connection", "exchange"."""
    sort: str | None = ""
    """The order at first: "" is the view's, None as they are fetched, for good."""
    empty: str = ""
    tag: str = "monitoring"
    """Who may not see it needs this tag."""
    command: str = ""
    """What lists it in a shell, where that is not the noun."""
    least: Mapping[str, int] = field(default_factory=dict)
    """Cells that a column must have, where that is not the usual."""
    most: int = _TEXT_MOST
    """Cells that a text may grow to."""
    kept: bool = True
    """Whether what was listed last is shown at once the next time."""
    counted: str = ""
    """What the rows are, where that is not the noun."""
    here: Callable[[Feed, T], bool] | None = None
    """Which rows are of this broker, where the list holds those of others as well."""
    words: Sequence[str] = ()
    """What stands behind the noun on the command line."""
    hidden: Sequence[str] = ()
    """Columns that say the same in all rows."""
    first: Sequence[str] = ()
    """The columns that stay when room is short, the most important first; the others follow in their order."""

    def slots(self, *, wide: bool) -> list[Slot[T]]:
        """The columns with their room."""
        columns = [column for column in self.view.select(wide=wide) if wide or column.name not in self.hidden]
        order = [*self.first, *(column.name for column in columns if column.name not in self.first)]
        slots = []
        for column in columns:
            number = column.align == "right"
            usual = max(len(column.title) + 1, _NUMBER_LEAST if number else _TEXT_LEAST)
            least = self.least.get(column.name, usual)
            rank = order.index(column.name)
            slots.append(Slot(column=column, least=least, most=0 if number else self.most, rank=rank))
        return slots


def _to_binding_target(info: BindingInfo) -> Message:
    if info.destination_type == "queue":
        return OpenQueue(info.vhost, info.destination)
    return bindings_of_exchange(info.destination)


def bindings_of_exchange(name: str) -> OpenList:
    """What starts at an exchange."""
    return OpenList("bindings", f"from {shown_name(name)}", lambda binding: binding.source == name)


def bindings_of_queue(name: str) -> OpenList:
    """What leads to a queue."""
    return OpenList(
        "bindings",
        f"to {safe_text(name, 40)}",
        lambda binding: binding.destination_type == "queue" and binding.destination == name,
    )


def consumers_of_queue(name: str) -> OpenList:
    """Who takes a queue's messages."""
    return OpenList("consumers", f"of {safe_text(name, 40)}", lambda consumer: consumer.queue.name == name)


def connection_named(name: str | None) -> OpenList | None:
    """One connection."""
    if not name:
        return None
    return OpenList("connections", safe_text(name, 40), lambda connection: connection.name == name)


def _channels_of(info: ConnectionInfo) -> Message:
    name = info.name
    return OpenList(
        "channels",
        f"of {safe_text(client(info) or name, 40)}",
        lambda channel: channel.connection_details is not None and channel.connection_details.name == name,
    )


def _consumers_of(info: ChannelInfo) -> Message:
    name = info.name
    return OpenList(
        "consumers",
        f"on {safe_text(name, 40)}",
        lambda consumer: consumer.channel_details is not None and consumer.channel_details.name == name,
    )


def _contexts(session: Session) -> list[ContextInfo]:
    from busctl.config import config_path, info_of
    from busctl.contexts import load_with_demos

    file = load_with_demos(config_path())
    here = session.settings.context
    return [
        info_of(name, context, current=name == here, previous=name == file.previous)
        for name, context in file.contexts.items()
    ]


_EXCHANGES: Noun[ExchangeInfo] = Noun(
    view=EXCHANGES,
    fetch=lambda session: session.management.exchanges(session.vhost),
    key=lambda info: info.name,
    label=lambda info: shown_name(info.name),
    opens=lambda info: bindings_of_exchange(info.name),
    jumps={"topology": lambda info: OpenTopology(info.name) if info.name else OpenList("topology")},
    first=("name", "type", "in", "out"),
)
_BINDINGS: Noun[BindingInfo] = Noun(
    view=BINDINGS,
    fetch=lambda session: session.management.bindings(session.vhost),
    key=lambda info: (info.source, info.destination_type, info.destination, info.properties_key),
    label=lambda info: f"{shown_name(info.source)} {info.destination} {info.routing_key}",
    opens=_to_binding_target,
    jumps={
        "exchange": lambda info: OpenList("exchanges", shown_name(info.source), lambda e: e.name == info.source),
        "topology": lambda info: OpenTopology(info.destination),
    },
    empty="Nothing leads anywhere here.",
    first=("source", "destination", "key"),
)
_CONNECTIONS: Noun[ConnectionInfo] = Noun(
    view=CONNECTIONS,
    fetch=lambda session: session.management.connections(session.vhost),
    key=lambda info: info.name,
    label=lambda info: f"{client(info) or ''} {info.name} {info.user or ''}",
    opens=_channels_of,
    sort="client",
    empty="Nobody is connected.",
    first=("client", "state", "peer", "in", "out", "user"),
    least={"client": 24, "user": 8, "state": 9, "peer": 15},
)
_CHANNELS: Noun[ChannelInfo] = Noun(
    view=CHANNELS,
    fetch=lambda session: session.management.channels(session.vhost),
    key=lambda info: info.name,
    label=lambda info: f"{info.name} {info.user or ''}",
    opens=_consumers_of,
    jumps={
        "connection": lambda info: connection_named(info.connection_details.name if info.connection_details else None)
    },
    empty="No channel is open.",
    first=("name", "state", "unacked", "unconfirmed", "prefetch"),
)
_CONSUMERS: Noun[ConsumerInfo] = Noun(
    view=CONSUMERS,
    fetch=lambda session: session.management.consumers(session.vhost),
    key=lambda info: (info.queue.name, info.consumer_tag, info.channel_details and info.channel_details.name),
    label=lambda info: f"{info.queue.name} {info.consumer_tag} {consumer_connection(info) or ''}",
    opens=lambda info: OpenQueue(info.queue.vhost, info.queue.name),
    jumps={"connection": lambda info: connection_named(consumer_connection(info))},
    empty="Nobody consumes here.",
    least={"connection": 21},
    first=("queue", "connection", "prefetch", "tag"),
)
_NODES: Noun[NodeInfo] = Noun(
    view=NODES,
    fetch=lambda session: session.management.nodes(),
    key=lambda info: info.name,
    label=lambda info: info.name,
    first=("name", "state", "memory", "disk_free", "fd"),
)
_VHOSTS: Noun[VhostInfo] = Noun(
    view=VHOSTS,
    fetch=lambda session: session.management.vhosts(),
    key=lambda info: info.name,
    label=lambda info: info.name,
    opens=lambda info: SwitchVhost(info.name),
    first=("name", "state", "messages", "in", "out", "tracing"),
)
_POLICIES: Noun[PolicyInfo] = Noun(
    view=POLICIES,
    fetch=lambda session: session.management.policies(session.vhost),
    key=lambda info: info.name,
    label=lambda info: f"{info.name} {info.pattern or ''}",
    opens=lambda info: OpenList("queues", filter=info.pattern or ""),
    empty="No policies here.",
    first=("name", "pattern", "definition"),
)
_USERS: Noun[AccountInfo] = Noun(
    view=USERS,
    fetch=lambda session: session.management.users(),
    key=lambda info: info.name,
    label=lambda info: info.name,
    opens=lambda info: OpenList("permissions", f"of {safe_text(info.name, 40)}", lambda each: each.user == info.name),
    tag="administrator",
)
_PERMISSIONS: Noun[PermissionInfo] = Noun(
    view=PERMISSIONS,
    fetch=lambda session: session.management.permissions(),
    key=lambda info: (info.user, info.vhost),
    label=lambda info: f"{info.user} {info.vhost}",
    tag="administrator",
)
_SHOVELS: Noun[ShovelInfo] = Noun(
    view=SHOVELS,
    fetch=lambda session: session.management.shovels(session.vhost),
    key=lambda info: info.name,
    label=lambda info: f"{info.name} {info.src_queue or ''} {info.dest_queue or ''}",
    empty="No shovels here.",
    first=("name", "state", "source", "target", "reason"),
    tag="monitoring",
)
_FEDERATION: Noun[FederationLinkInfo] = Noun(
    view=FEDERATION,
    fetch=lambda session: session.management.federation_links(session.vhost),
    key=lambda info: (info.type, info.name, info.upstream, info.id),
    label=lambda info: f"{info.name} {info.upstream or ''}",
    empty="Nothing here is fed from another broker.",
    first=("name", "status", "upstream", "from", "error"),
    tag="monitoring",
)
_CONTEXTS: Noun[ContextInfo] = Noun(
    view=CONTEXTS,
    fetch=_contexts,
    key=lambda info: info.name,
    label=lambda info: info.name,
    opens=lambda info: SwitchTo(info.name),
    empty="No broker has a name yet. Give one with: busctl contexts add NAME --amqp-url amqp://…",
    first=("name", "current", "address"),
)


def _operations(_: Session) -> Sequence[Operation]:
    from busctl_lib.journal import Journal

    with Journal() as journal:
        return journal.operations(500)


def _changed_here(feed: Feed, operation: Operation) -> bool:
    """Whether an operation is of this broker; while its name is not known, each may be."""
    overview = feed.snapshot.overview
    return overview is None or overview.cluster_name in (None, operation.broker)


def _dead(session: Session) -> Sequence[DeadLetterQueue]:
    from busctl_lib.deadletters import dead_letter_queues

    return dead_letter_queues(session.management, session.vhost)


def _sources_of(found: DeadLetterQueue) -> Message | None:
    names = frozenset(found.sources)
    if len(names) == 1:
        return OpenQueue(found.vhost, next(iter(names)))
    return OpenList("queues", f"that feed {safe_text(found.name, 40)}", lambda info: info.name in names)


def _replay_of(found: DeadLetterQueue) -> Message:
    from busctl_lib.transfers import Request

    return OpenTransfer(request=Request(kind="replay", source=found.name))


_DEAD: Noun[DeadLetterQueue] = Noun(
    view=DEAD_QUEUES,
    fetch=_dead,
    key=lambda found: found.name,
    label=lambda found: f"{found.name} {' '.join(found.sources)}",
    opens=lambda found: OpenDead(found.name),
    jumps={
        "replay": _replay_of,
        "queue": lambda found: OpenQueue(found.vhost, found.name),
        "source": _sources_of,
        "topology": lambda found: OpenTopology(found.name),
    },
    sort="-messages",
    empty="No queue of dead letters here.",
    command="dead",
    least={"name": 22},
    first=("name", "messages", "arrivals", "depth", "sources", "oldest"),
)
_OPERATIONS: Noun[Operation] = Noun(
    view=OPERATIONS,
    fetch=_operations,
    key=lambda operation: operation.id,
    label=lambda operation: f"{operation.kind} {operation.source} {operation.target or ''} {operation.state}",
    opens=OpenOperation,
    jumps={
        "undo": lambda operation: OpenTransfer(undo=operation.id),
        "resume": lambda operation: OpenTransfer(resume=operation.id),
    },
    sort="-started_at",
    empty="Nothing was changed here from this machine yet.",
    command="ops",
    here=_changed_here,
    least={"started_at": 19, "state": 11, "kind": 8, "id": 10},
    first=("started_at", "kind", "source", "state", "moved", "planned", "id"),
)
_ALL: tuple[Noun[Any], ...] = (
    *(_EXCHANGES, _BINDINGS, _CONNECTIONS, _CHANNELS, _CONSUMERS),
    *(_NODES, _VHOSTS, _POLICIES, _USERS, _PERMISSIONS, _SHOVELS, _FEDERATION, _CONTEXTS, _OPERATIONS),
)
NOUNS: dict[str, Noun[Any]] = {noun.view.noun: noun for noun in _ALL} | {"dead": _DEAD}
