"""`busctl consumers`: who takes the messages of queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.consumers import CONSUMERS, timeout
from busctl_lib.management.infos_cluster import release_of

if TYPE_CHECKING:
    from busctl_lib.management import ConsumerInfo, ManagementClient


def consumers(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="A pattern or a name: a consumer's tag, or its queue."),
    ] = None,
    form: OutputOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    watch: WatchOption = None,
    where: WhereOption = None,
    all_vhosts: AllVhostsOption = False,
) -> None:
    """List consumers: of which queue, with which prefetch, and from where."""
    lists.run(ctx, _LISTING, lists.Asked(name, form, sort, columns, watch, where, all_vhosts))


def _detail(api: ManagementClient, info: ConsumerInfo) -> lists.Detail:
    """One consumer with what its queue does to it: how long it may hold a message, how often one may fail."""
    queue, version = api.queue(info.queue.vhost, info.queue.name), api.overview().rabbitmq_version
    in_force = timeout(info, queue.type, release_of(version))
    columns = [column for column in CONSUMERS.select(wide=True) if column.name != "timeout"]
    limit = queue.delivery_limit
    lines = [
        *lists.fields(columns, info),
        ("timeout", in_force or "not known: this version does not tell"),
        ("limit", "none, or not told" if limit is None else f"{limit} deliveries of one message ({queue.type} queue)"),
    ]
    answer = {} if limit is None else {"delivery_limit": limit}
    return lists.Detail({**answer, "rabbitmq_version": version}, lines)


def _names(info: ConsumerInfo) -> tuple[str | None, ...]:
    return (info.consumer_tag, info.queue.name)


_LISTING = lists.Listing(
    view=CONSUMERS,
    singular="consumer",
    fetch=lambda api, vhost: api.consumers(vhost),
    names=_names,
    detail=_detail,
)
