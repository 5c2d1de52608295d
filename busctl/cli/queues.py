"""`busctl queues`: the list, and one queue in detail."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from busctl.cli import exits, flags, lists, output
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.queues import QUEUES
from busctl.views.replicas import trouble
from busctl_lib.errors import ApiForbidden

if TYPE_CHECKING:
    from busctl_lib.management import ManagementClient, QueueInfo
    from busctl_lib.topology_map import TopologyMap

_SPAN_S = 600
_TOPOLOGY_GOOD_S = 30.0
_COUNTED = {"name", "vhost", "type", "messages_ready", "messages_unacknowledged", "messages", "consumers", "node"}
"""Columns that the list of a large bus fills in; for others all that a list can bring is asked for."""


def queues(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="GLOB", help="A pattern such as 'obs_*', or the name of one queue.")
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
    at_risk: Annotated[
        bool,
        typer.Option("--at-risk", help="Only quorum queues and streams that lost a member, or may lose no more."),
    ] = False,
) -> None:
    """List queues with their depth, consumers and rates; an exact name shows that queue in detail."""
    asked = lists.Asked(name, form, sort, columns, watch, where, all_vhosts)
    try:
        lists.run(ctx, _listing(at_risk=at_risk), asked)
    except ApiForbidden as error:
        if name is None or all_vhosts or at_risk or any(sign in name for sign in "*?["):
            raise
        lists.run(ctx, _by_amqp(ctx), asked)
        exits.note(f"{error}: this is what AMQP tells")


def _by_amqp(ctx: typer.Context) -> lists.Listing[QueueInfo]:
    """One queue for a user whom the API refuses: how many messages wait in it, and how many consume it."""
    from busctl_lib.management import QueueInfo

    def get(_api: ManagementClient, vhost: str, name: str) -> QueueInfo:
        with flags.open_session(ctx) as session:
            found = session.broker.connect().declare_queue(name, passive=True)
        return QueueInfo(name=name, vhost=vhost, messages_ready=found.message_count, consumers=found.consumer_count)

    return lists.Listing(view=QUEUES, singular="queue", fetch=lambda api, vhost: api.queues(vhost), get=get)


def _at_risk(api: ManagementClient, vhost: str | None) -> list[QueueInfo]:
    """Also the list of a large bus knows members."""
    return [info for info in _listed(api, vhost) if trouble(info) is not None]


def _listed(api: ManagementClient, vhost: str | None, asked: lists.Asked | None = None) -> list[QueueInfo]:
    """All queues, with rates where they are few enough to ask for them without hurting the broker, or asked for."""
    overview = api.overview()
    if not overview.is_large:
        return api.queues_with_rates(vhost)
    if asked is not None and (asked.looks_at is None or not _COUNTED.issuperset(asked.looks_at)):
        return api.queues_with_rates(vhost)
    return api.queues_counted(vhost, overview)


def _one(api: ManagementClient, vhost: str, name: str) -> QueueInfo:
    """One queue with its history."""
    from busctl_lib.management import History

    return api.queue(vhost, name, History(age_s=_SPAN_S))


class _Detailed:
    """Shows one queue; with --watch, the topology of its vhost is read anew only now and then."""

    def __init__(self) -> None:
        self._topology: TopologyMap | None = None
        self._read_at = 0.0

    def __call__(self, api: ManagementClient, info: QueueInfo) -> lists.Detail:
        from busctl.views import queue_detail as view
        from busctl_lib import queue_detail, topology_map

        if self._topology is None or time.monotonic() - self._read_at > _TOPOLOGY_GOOD_S:
            self._topology, self._read_at = topology_map.read(api, info.vhost), time.monotonic()
        detail = queue_detail.read(api, info, self._topology)
        lines = [(each.label, output.paint(each.text, each.tone)) for each in view.lines(info, detail, _SPAN_S)]
        return lists.Detail(msgspec.to_builtins(detail), lines)


def _listing(*, at_risk: bool) -> lists.Listing[QueueInfo]:
    if at_risk:
        return lists.Listing(view=QUEUES, singular="queue at risk", fetch=_at_risk, detail=_Detailed())
    return lists.Listing(
        view=QUEUES, singular="queue", fetch=_listed, fetch_asked=_listed, get=_one, detail=_Detailed()
    )
