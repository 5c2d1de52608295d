"""`busctl consumers`: who takes the messages of queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from busctl.cli import lists
from busctl.cli.lists import AllVhostsOption, ColumnsOption, OutputOption, SortOption, WatchOption, WhereOption
from busctl.views.consumers import CONSUMERS

if TYPE_CHECKING:
    from busctl_lib.management import ConsumerInfo


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


def _names(info: ConsumerInfo) -> tuple[str | None, ...]:
    return (info.consumer_tag, info.queue.name)


_LISTING = lists.Listing(
    view=CONSUMERS, singular="consumer", fetch=lambda api, vhost: api.consumers(vhost), names=_names
)
